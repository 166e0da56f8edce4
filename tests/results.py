"""RESULT objects made up for tests of what shows them."""

from cocoer.labels import EMOTIC_LABELS

LEVELS = ("head", "body", "context")


def make_person(number, body, head, labels):
    """An entry of ``persons`` with these final labels, the first the most probable."""
    probabilities = [0.95 - 0.05 * labels.index(x) if x in labels else 0.1 for x in EMOTIC_LABELS]
    keys = ("pred", "VI", "head", "body", "ctx")
    thirds = dict.fromkeys(LEVELS, 1 / 3)
    halves = dict.fromkeys(("head", "context"), 0.5)
    return {
        "id": number,
        "body_box": body,
        "head_box": head,
        **{key: [x for x in EMOTIC_LABELS if x in labels] for key in keys},
        "emo_process": ["body-level", "head-level", "context-level"],
        "scores": dict.fromkeys(keys, probabilities),
        "refined": dict.fromkeys(("head", "body", "ctx"), probabilities),
        "losses": {"head": 2.0, "body": 3.0, "context": 1.0},
        "coordination": {
            "lambda_w1": thirds,
            "lambda_b1": thirds,
            "lambda_w2": halves,
            "lambda_b2": halves,
            "grad_distance": 0.5,
        },
    }


def make_result(size, persons, synthetic=False, detector="scrfd"):
    """RESULT of an image of ``size`` (width, height)."""
    return {
        "image": {"width": size[0], "height": size[1], "damage": None},
        "persons": persons,
        "labels": list(EMOTIC_LABELS),
        "model": {
            "version": "0",
            "weights": "none",
            "synthetic": synthetic,
            "detector": detector,
            "channel_order": "bgr",
            "coordination_step": 1.0,
            "precision": "fp32",
        },
    }
