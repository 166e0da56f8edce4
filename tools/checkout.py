"""Build backend of the checkout: setuptools' editable install, and nothing else.

The served model, the export and the benchmarks work from the files beside them, so that a wheel of them could not.
"""

from __future__ import annotations

from typing import NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "prepare_metadata_for_build_editable",
]

INSTEAD = (
    "CocoER's server runs from its checkout: run 'make setup' there. To install the client alone: pip install ./client"
)


def build_wheel(*_: object, **__: object) -> NoReturn:
    """Refuse, and say what to do."""
    raise SystemExit(INSTEAD)


build_sdist = build_wheel
