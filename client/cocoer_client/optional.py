"""Packages that only some inputs or styles need."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from cocoer_client.errors import InvalidInput


def opencv(wanted_by: str) -> Any:
    """The module ``cv2``; raises ``InvalidInput`` where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise InvalidInput(f"{wanted_by} needs OpenCV: pip install 'cocoer-client[video]'") from error
    return cv2


def needs(wanted_by: str, *modules: str, extra: str) -> None:
    """Raise ``InvalidInput`` unless packages are installed; ``extra`` is this package's that brings them."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InvalidInput(f"{wanted_by} needs {', '.join(missing)}: pip install 'cocoer-client[{extra}]'")
