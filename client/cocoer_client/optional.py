"""Packages that only some inputs or styles need."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cocoer_client.errors import InvalidInput


def opencv(wanted_by: str) -> Any:
    """The module ``cv2``; raises ``InvalidInput`` where it is not installed, or can't be loaded."""
    return _module("cv2", wanted_by, "OpenCV")


def pyav(wanted_by: str) -> Any:
    """The module ``av``; raises ``InvalidInput`` where it is not installed, or can't be loaded."""
    return _module("av", wanted_by, "PyAV")


def trackers() -> Any:
    """The module ``trackers``, which needs OpenCV; raises ``InvalidInput`` where one of them can't be had."""
    opencv("following persons through a video")
    return _module("trackers", "following persons through a video", "trackers")


def supervision() -> Any:
    """The module ``supervision``, which comes with ``trackers``."""
    return _module("supervision", "following persons through a video", "supervision")


def _module(name: str, wanted_by: str, called: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidInput(f"{wanted_by} needs {called}: pip install 'cocoer-client[video]'") from error
    except ImportError as error:
        # It is there, and a library of the system is not.
        hint = "apt-get install libgl1 libglib2.0-0, or pip install opencv-python-headless instead of opencv-python"
        remedy = f"; {hint}" if name == "cv2" else ""
        raise InvalidInput(f"{wanted_by} needs {called}, which can't be loaded: {error}{remedy}") from error


def needs(wanted_by: str, *modules: str, extra: str) -> None:
    """Raise ``InvalidInput`` unless packages are installed; ``extra`` is this package's that brings them."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise InvalidInput(f"{wanted_by} needs {', '.join(missing)}: pip install 'cocoer-client[{extra}]'")
