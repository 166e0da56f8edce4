"""The one table of served models. ONNX axes, ``config.pbtxt``, the ensembles and the parity report come from it."""

from __future__ import annotations

from export.models.base import Model
from export.models.context_encoder import ContextEncoderModel
from export.models.context_gather import ContextGatherModel
from export.models.detectors import DetectorModel
from export.models.ensembles import DETECTION, RECOGNITION, Ensemble
from export.models.fusion import FusionModel
from export.models.person_encoder import PersonEncoderModel
from export.models.vi_head import VIHeadModel

PERSON_DETECTOR = DetectorModel("person", "insightface/scrfd_person_2.5g.onnx", iou_threshold=0.5, cpu_share=0.25)
FACE_DETECTOR = DetectorModel("face", "insightface/det_10g.onnx", iou_threshold=0.4, cpu_share=0.75)
CONTEXT_ENCODER = ContextEncoderModel()
VI_HEAD = VIHeadModel()
CONTEXT_GATHER = ContextGatherModel()
HEAD_ENCODER, BODY_ENCODER = PersonEncoderModel("head"), PersonEncoderModel("body")
FUSION = FusionModel()

DETECTORS = (PERSON_DETECTOR, FACE_DETECTOR)
MODELS: tuple[Model, ...] = (
    *DETECTORS,
    CONTEXT_ENCODER,
    VI_HEAD,
    CONTEXT_GATHER,
    HEAD_ENCODER,
    BODY_ENCODER,
    FUSION,
)
ENSEMBLES: tuple[Ensemble, ...] = (DETECTION, RECOGNITION)
"""Both tables have detectors of the usual size; a build's own are ``Options.models`` and ``Options.ensembles``."""


def model(name: str) -> Model:
    """Look a model up by name; raises KeyError with the valid ones."""
    for one in MODELS:
        if one.name == name:
            return one
    raise KeyError(f"no model {name!r}; there are {', '.join(one.name for one in MODELS)}")
