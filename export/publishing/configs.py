"""Spec -> ``config.pbtxt``, through Triton's own protobuf schema."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.models.specs import ENGINES, ENSEMBLES, MAX_IMAGES, USUAL_PERSONS, EngineSpec, EnsembleSpec, TensorSpec
from export.plans.profiles import as_text, profile
from export.serving_options import DEFAULT, Serving

LABELS_FILE = "labels.txt"

THRESHOLDS = {"final_threshold": "0.26", "level_threshold": "0.6", "min_score": "0.5"}
"""Defaults of ``cocoer``'s request parameters (the release's values)."""

LIMITS = {"max_bytes": "33554432", "max_pixels": "50000000", "max_persons": "512", "formats": "JPEG,PNG,WEBP,BMP"}
"""What one image may ask of ``cocoer``."""

MAX_QUEUE = 64
"""Requests waiting for ``cocoer``; the next one is refused at once (UNAVAILABLE)."""

MAX_WAIT_MICROSECONDS = 20_000_000
"""How long a request may wait for ``cocoer`` before it is refused; requests may ask for less (``timeout``)."""

COCOER_INSTANCES = 2
"""An instance is busy while its recognition runs; a second one decodes the next image meanwhile."""

GPU_INSTANCES, GPU_MAX_QUEUE = 16, 512
"""The same where a GPU recognises: decoding and cutting out crops, on the CPU, are then what takes time."""


def all_configs(serving: Serving = DEFAULT) -> dict[str, pb.ModelConfig]:
    """Model name -> configuration, for every model of the repository."""
    configs = {spec.name: engine_config(spec, serving) for spec in ENGINES}
    configs |= {spec.name: ensemble_config(spec) for spec in ENSEMBLES}
    return {**configs, "cocoer": cocoer_config(serving)}


def to_text(config: pb.ModelConfig) -> str:
    """The configuration as ``config.pbtxt`` holds it."""
    return "# Written by export/build_engines.py\n" + text_format.MessageToString(
        config, use_short_repeated_primitives=True
    )


def engine_config(spec: EngineSpec, serving: Serving = DEFAULT) -> pb.ModelConfig:
    """Configuration of a model that runs an ONNX graph, or the TensorRT plan made of it."""
    plan = serving.runs_plan(spec)
    backend = "tensorrt" if plan else "onnxruntime"
    config = pb.ModelConfig(name=spec.name, backend=backend, max_batch_size=spec.max_batch_size)
    batched = spec.max_batch_size > 0
    config.input.extend(_input(tensor, batched) for tensor in spec.inputs)
    config.output.extend(_output(tensor, batched, label=spec.name == "fusion") for tensor in spec.outputs)
    # KIND_AUTO: the GPU where there is one. The count is written out because the server's default differs by backend.
    absent = spec.is_detector and not serving.scrfd
    on_gpu = serving.on_gpu and not absent
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_AUTO
    config.instance_group.add(count=1, kind=kind)
    if batched:
        config.dynamic_batching.SetInParent()
    if plan:
        _cuda_graphs(config, spec)
    elif on_gpu:
        _accelerate(config, spec, serving)
    else:
        _share_cpu(config, spec)
    if serving.precision == "fp16" and not plan:
        # ONNX Runtime's CPU provider crashes on FP16 transformer graphs at its highest level.
        config.optimization.graph.level = 1
    _warm_up(config, batched)
    return config


def _share_cpu(config: pb.ModelConfig, spec: EngineSpec) -> None:
    if spec.run_batch:
        config.parameters["cpu_run_batch"].string_value = str(spec.run_batch)
    config.parameters["cpu_thread_share"].string_value = f"{spec.cpu_share:g}"


def _cuda_graphs(config: pb.ModelConfig, spec: EngineSpec) -> None:
    """Record an engine's launches once for small batches, where launching takes longer than computing.

    Not for detectors: what NMS selects differs in size, and such an engine can't be recorded. Nor for engines without
    batching, where images and persons vary apart.
    """
    if spec.is_detector or not spec.max_batch_size:
        return
    cuda = config.optimization.cuda
    cuda.graphs = True
    smallest = 1
    size = 1
    while size <= min(spec.max_batch_size, USUAL_PERSONS):
        graph = cuda.graph_spec.add(batch_size=size)
        # Batches between two sizes take the larger one's graph.
        graph.graph_lower_bound.batch_size = smallest
        for tensor in spec.inputs:
            graph.input[tensor.name].dim.extend(tensor.dims)
            graph.graph_lower_bound.input[tensor.name].dim.extend(tensor.dims)
        smallest, size = size + 1, size * 2


def _accelerate(config: pb.ModelConfig, spec: EngineSpec, serving: Serving) -> None:
    """ONNX Runtime's providers, by the names of Triton's native backend (its README lists them)."""
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if serving.accelerator == "tensorrt" and spec.max_batch_size:
        ranges = profile(spec)
        parameters = {
            "precision_mode": "FP32",  # FP16 would let it put LayerNorms and energies there as well
            "max_workspace_size_bytes": str(int(serving.workspace_gib * 2**30)),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(serving.engine_cache),
            "trt_engine_cache_prefix": spec.name,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(serving.engine_cache),
            **{f"trt_profile_{bound}_shapes": as_text(ranges, i) for i, bound in enumerate(("min", "opt", "max"))},
        }
        accelerators.add(name="tensorrt", parameters=parameters)
    # ONNX Runtime multiplies FP32 as TF32 unless told not to: 10 bits of mantissa, where 1e-3 on logits is promised.
    cuda = {"cudnn_conv_use_max_workspace": "1", "use_ep_level_unified_stream": "1", "use_tf32": "0"}
    accelerators.add(name="cuda", parameters=cuda)


def _warm_up(config: pb.ModelConfig, batched: bool) -> None:
    """Run once before the model is ready: allocations and kernel selection are not the first user's to wait for."""
    sample = config.model_warmup.add(name="one", batch_size=1)
    for tensor in config.input:
        entry = sample.inputs[tensor.name]
        entry.data_type = tensor.data_type
        entry.dims.extend(tensor.dims if batched else [1, *tensor.dims[1:]])
        entry.zero_data = True


def ensemble_config(spec: EnsembleSpec) -> pb.ModelConfig:
    """Configuration of an ensemble: leading dimensions are its own, so that images and persons can differ in number."""
    config = pb.ModelConfig(name=spec.name, platform="ensemble", max_batch_size=0)
    config.input.extend(_input(tensor, batched=False) for tensor in spec.inputs)
    config.output.extend(_output(tensor, batched=False, label=spec.name == "recognition") for tensor in spec.outputs)
    for step in spec.steps:
        message = config.ensemble_scheduling.step.add(model_name=step.model, model_version=-1)
        message.input_map.update(step.inputs)
        message.output_map.update(step.outputs)
    return config


def cocoer_config(serving: Serving = DEFAULT) -> pb.ModelConfig:
    """Configuration of the Python model that clients call."""
    config = pb.ModelConfig(name="cocoer", backend="python", max_batch_size=MAX_IMAGES)
    config.input.add(name="IMAGE", data_type=pb.TYPE_STRING, dims=[1])
    config.input.add(name="PERSONS", data_type=pb.TYPE_FP32, dims=[-1, 8], optional=True, allow_ragged_batch=True)
    config.output.add(name="RESULT", data_type=pb.TYPE_STRING, dims=[1])
    instances = GPU_INSTANCES if serving.on_gpu else COCOER_INSTANCES
    config.instance_group.add(count=instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    # Here alone: what this model has accepted, the models behind it never refuse.
    policy = config.dynamic_batching.default_queue_policy
    policy.max_queue_size = GPU_MAX_QUEUE if serving.on_gpu else MAX_QUEUE
    policy.default_timeout_microseconds = MAX_WAIT_MICROSECONDS
    policy.timeout_action = pb.ModelQueuePolicy.REJECT
    policy.allow_timeout_override = True
    for key, value in {**THRESHOLDS, **LIMITS}.items():
        config.parameters[key].string_value = value
    return config


def _dims(tensor: TensorSpec, batched: bool) -> list[int]:
    # Triton has no rank-0 tensors: a batched scalar would need dims [1]. None of ours is batched.
    return list(tensor.dims) if batched else [-1, *tensor.dims]


def _input(tensor: TensorSpec, batched: bool) -> pb.ModelInput:
    return pb.ModelInput(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=_dims(tensor, batched))


def _output(tensor: TensorSpec, batched: bool, label: bool) -> pb.ModelOutput:
    output = pb.ModelOutput(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=_dims(tensor, batched))
    if label and tensor.dims == (26,):
        output.label_filename = LABELS_FILE
    return output
