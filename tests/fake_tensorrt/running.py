"""Running plans, by ONNX Runtime: with the products of TF32 where a plan may have them."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from cocoer_bls.plans import parse_version
from tests.fake_tensorrt.building import GRAPHS
from tests.fake_tensorrt.objects import Checked
from tests.tf32 import with_tf32_products


class Runtime(Checked):
    def __init__(self, log: Any) -> None:
        self._log = log
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        try:
            settings = json.loads(bytes(serialized_engine))
        except ValueError:
            self._log.log("ERROR", "deserializeCudaEngine: magic tag does not match")
            return None
        compatible = "VERSION_COMPATIBLE" in settings["flags"]
        built, running = parse_version(settings["tensorrt"]), parse_version(self.trt.__version__)
        if compatible and not self.engine_host_code_allowed:
            self._log.log("ERROR", "deserializeCudaEngine: the plan has host code, which is not allowed")
            return None
        if built > running or (built != running and not compatible):
            self._log.log("ERROR", f"deserializeCudaEngine: the plan is of version {built}, this is {running}")
            return None
        if settings["compute_capability"] != self.trt.compute_capability and settings["level"] != "AMPERE_PLUS":
            self._log.log("ERROR", f"deserializeCudaEngine: the plan is for SM {settings['compute_capability']}")
            return None
        return self.trt.ICudaEngine(settings, self._log)


class Engine(Checked):
    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        self._settings, self._log = settings, log
        model = onnx.load_from_string(GRAPHS[settings["sha256"]])
        self._inputs = {value.name: self.trt.ITensor(value) for value in model.graph.input}
        self._outputs = {value.name: self.trt.ITensor(value) for value in model.graph.output}
        self._tensors = {**self._inputs, **self._outputs}
        if "TF32" in settings["flags"]:
            model = with_tf32_products(model)
        self._session = ort.InferenceSession(model.SerializeToString())

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self._inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def get_tensor_format(self, name: str, profile: int = 0) -> Any:
        return self.trt.TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def create_execution_context(self) -> Any:
        return self.trt.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return self.trt.EngineInspector()


class Context(Checked):
    def __init__(self, engine: Any) -> None:
        self.engine, self.active_optimization_profile = engine, 0
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._allocators: dict[str, Any] = {}
        self.trt.contexts.add(self)

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        return True

    def set_debug_listener(self, listener: Any) -> bool:
        return isinstance(listener, self.trt.IDebugListener)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name, self.engine.get_tensor_shape(name))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine._settings["profile"][name]
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high)):
            self.engine._log.log("ERROR", f"setInputShape: {name} is {shape}, the profile has {low} to {high}")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return isinstance(output_allocator, self.trt.IOutputAllocator)

    def execute_async_v3(self, stream_handle: int) -> bool:
        feed = {}
        for name, tensor in self.engine._inputs.items():
            if name not in self._addresses or -1 in self.get_tensor_shape(name):
                self.engine._log.log("ERROR", f"enqueueV3: {name} has no address or no shape")
                return False
            array = np.empty(self.get_tensor_shape(name), _numpy_type(tensor.dtype))
            ctypes.memmove(array.ctypes.data, self._addresses[name], array.nbytes)
            feed[name] = array
        for name, value in zip(self.engine._outputs, self.engine._session.run(None, feed)):
            found = np.ascontiguousarray(value + value.dtype.type(self.trt.wrong) if self.trt.wrong else value)
            allocator = self._allocators[name]
            address = allocator.reallocate_output_async(name, 0, found.nbytes, 256, stream_handle)
            ctypes.memmove(address, found.ctypes.data, found.nbytes)
            allocator.notify_shape(name, found.shape)
        return True


def _numpy_type(dtype: Any) -> Any:
    return {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}[
        dtype.name
    ]


class Inspector(Checked):
    def get_engine_information(self, format: Any) -> str:
        assert format.name == "JSON"
        outputs = [{"Name": "x", "Format/Datatype": kind} for kind in ("Half", "Half", "Float")]
        return json.dumps({"Layers": [{"Name": "layer", "Outputs": outputs}]})
