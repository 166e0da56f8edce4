"""Checkpoint -> ONNX -> TensorRT -> model repository."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MODEL_CODE = PROJECT / "model_repository" / "cocoer" / "1"
"""The BLS, in the repository where it is developed; its package is importable from here on."""
if str(MODEL_CODE) not in sys.path:
    sys.path.append(str(MODEL_CODE))
