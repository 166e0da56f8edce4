"""What objects of TensorRT's have in common: none has a name that the real class lacks; memory, and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from tests.fake_tensorrt import FakeTensorRT

TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}


class Checked:
    """An object of TensorRT's: what is read or set must be there in the real class."""

    trt: FakeTensorRT
    real: str

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in ("trt", "real"):
            _must_have(type(self), name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            _must_have(type(self), name)
        object.__setattr__(self, name, value)


def _must_have(kind: type, name: str) -> None:
    trt, real = kind.trt, kind.real
    if name not in trt.api[real]:
        raise AttributeError(f"{real} of TensorRT {trt.__version__} has no {name}")


class Subclassed:
    """Called back: ``log``, ``phase_start``, ``reallocate_output``."""


class Memory(bytes):
    """IHostMemory."""

    @property
    def nbytes(self) -> int:
        return len(self)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Tensor(Checked):
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.dtype = self.trt.DataType[TYPES[value.type.tensor_type.elem_type]]
        self.shape = tuple(-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim)
        self.is_shape_tensor = False
