"""Self-contained pages of HTML: templates, and images that are part of them."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
from PIL import Image

from cocoer_client.drawing.levels import LEVEL_COLOURS


@cache
def template(path: Path) -> jinja2.Template:
    """A template, which escapes what it is given, and fails where it is given too little.

    It may include ``look.css.j2``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["level_colours"] = LEVEL_COLOURS
    return environment.get_template(path.name)


def data_uri(image: Image.Image, kind: Literal["jpeg", "webp"], **options: Any) -> str:
    """An image as a URL that needs no file; ``options`` are Pillow's of the format."""
    stream = io.BytesIO()
    image.save(stream, kind.upper(), quality=85, **options)
    return data_uri_of(stream.getvalue(), f"image/{kind}")


def data_uri_of(data: bytes, media_type: str) -> str:
    """A file as a URL that needs no file, its bytes as they are.

    >>> data_uri_of(b"GIF", "image/gif")
    'data:image/gif;base64,R0lG'
    """
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
