"""Whether a directory is a build's to replace: nothing is, that something else has put there."""

from __future__ import annotations

from pathlib import Path

from cocoer_bls.manifest import BUILD_FILE, LABELS_FILE
from cocoer_bls.plans import PLAN_FILE, SIDECAR_FILE
from export import MODEL_CODE
from export.models import ENSEMBLES, MODELS
from export.publishing.layout import MARKER, ONNX_FILE, RECORD_FILE, REPORT_FILE

EARLIER = "tensorrt_timing.cache"
"""What earlier versions wrote beside the models."""
AT_THE_TOP = frozenset((MARKER, REPORT_FILE, EARLIER))
OURS = frozenset((*(model.name for model in MODELS), *(ensemble.name for ensemble in ENSEMBLES)))
OF_A_MODEL = frozenset(
    (
        "config.pbtxt",
        LABELS_FILE,
        *(f"1/{name}" for name in (LABELS_FILE, ONNX_FILE, RECORD_FILE, PLAN_FILE, SIDECAR_FILE, ".gitkeep")),
    )
)
OF_COCOER = OF_A_MODEL | {"1/model.py", f"1/{BUILD_FILE}"}
SHOWN = 3


def strangers(repository: Path) -> list[str]:
    """Paths in a repository that no build has written, but for caches of Python and what an interruption left.

    Everything is strange in a directory where no build was ever written: a model of another team may be called
    ``detection`` too.
    """
    files = [path for path in sorted(repository.rglob("*")) if not path.is_dir() or path.is_symlink()]
    names = [path.relative_to(repository).as_posix() for path in files]
    built = any(name == REPORT_FILE or name.endswith((f"/1/{RECORD_FILE}", f"cocoer/1/{BUILD_FILE}")) for name in names)
    return [name for name in names if not (built and _is_ours(name)) and not _passes_away(name)]


def _is_ours(name: str) -> bool:
    model, _, rest = name.partition("/")
    if not rest:
        return name in AT_THE_TOP
    if model == "cocoer":
        return rest in OF_COCOER or rest.startswith(f"1/{MODEL_CODE.name}/")
    return model in OURS and rest in OF_A_MODEL


def _passes_away(name: str) -> bool:
    return "__pycache__" in name.split("/") or name.endswith(".part")


def told(repository: Path, found: list[str]) -> str:
    """The refusal of a directory, in a sentence."""
    shown = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return (
        f"{repository} holds what no build has written ({shown}), and a build replaces the whole directory. Move that "
        "elsewhere (tritonserver takes --model-repository several times), or give --repository a directory of its own"
    )
