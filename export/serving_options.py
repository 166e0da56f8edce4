"""What serves the engines: a backend of Triton's, and what it runs them on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from export.models.specs import EngineSpec

BACKENDS = ("onnxruntime", "tensorrt")
ACCELERATORS = ("auto", "cuda", "tensorrt")
ENGINE_CACHE = PurePosixPath("/tmp/cocoer-tensorrt")
"""Where ONNX Runtime's TensorRT provider keeps what it builds at the first start; a volume, if it is to last."""
WORKSPACE_GIB = 4.0
"""GPU memory that TensorRT may use for a layer."""


@dataclass(frozen=True)
class Serving:
    """Decides ``config.pbtxt``, beside the specs.

    Args:
        precision: of the engines: "fp32", "fp16" or "int8".
        backend: "onnxruntime": model.onnx; "tensorrt": model.plan.
        accelerator: of ONNX Runtime. "auto": the GPU by CUDA where there is one, else the CPU; "cuda": a GPU;
            "tensorrt": a GPU, the heavy engines by its TensorRT provider.
        scrfd: whether there are detectors; else nothing ever calls what stands in their place.
        engine_cache: see ``ENGINE_CACHE``.
        workspace_gib: of ONNX Runtime's TensorRT provider; see ``WORKSPACE_GIB``.
    """

    precision: str = "fp32"
    backend: str = "onnxruntime"
    accelerator: str = "auto"
    scrfd: bool = True
    engine_cache: PurePosixPath = ENGINE_CACHE
    workspace_gib: float = WORKSPACE_GIB

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is certain to be there."""
        return self.backend == "tensorrt" or self.accelerator != "auto"

    def runs_plan(self, spec: EngineSpec) -> bool:
        """Whether an engine is served as a TensorRT plan."""
        return self.backend == "tensorrt" and (self.scrfd or not spec.is_detector)


DEFAULT = Serving()
