"""Packages that only some inputs or styles need."""

from __future__ import annotations

from typing import Any

from client.errors import InvalidInput


def opencv(wanted_by: str) -> Any:
    """The module ``cv2``; raises ``InvalidInput`` where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise InvalidInput(f"{wanted_by} needs OpenCV: pip install opencv-python-headless") from error
    return cv2
