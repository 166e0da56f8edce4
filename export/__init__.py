"""Checkpoint -> ONNX -> TensorRT -> model repository."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout."""
MODEL_CODE = PROJECT / "cocoer_bls"
"""The served pipeline, a package that is published beside the model that it is."""

# ONNX Runtime's wheels, since 1.29, report to their maker what they run unless this is set when they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
