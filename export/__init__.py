"""Checkpoint -> ONNX -> TensorRT -> model repository."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout."""
MODEL_CODE = PROJECT / "cocoer_bls"
"""The served pipeline, a package that is published beside the model that it is."""
