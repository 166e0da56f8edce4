"""The BLS's own steps (decoding, boxes, windows), from where the server loads them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "model_repository" / "cocoer" / "1"))

from cocoer_bls.boxes import Person, detected_persons, given_persons, with_heads  # noqa: E402
from cocoer_bls.images import DecodeLimits, decode, letterbox  # noqa: E402
from cocoer_bls.options import Options  # noqa: E402
from cocoer_bls.pipeline import Job, recognition_inputs  # noqa: E402

__all__ = [
    "DecodeLimits",
    "Job",
    "Options",
    "Person",
    "decode",
    "detected_persons",
    "given_persons",
    "with_heads",
    "letterbox",
    "recognition_inputs",
]
