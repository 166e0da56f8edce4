"""Precisions of a build: FP16 for GPUs, bf16 and INT8 for CPUs, and the images that INT8 is calibrated with."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "int8"]
