"""Checkpoint -> ONNX -> TensorRT -> model repository."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout."""
MODEL_CODE = PROJECT / "model_repository" / "cocoer" / "1"
"""The BLS, in the repository where it is developed."""
