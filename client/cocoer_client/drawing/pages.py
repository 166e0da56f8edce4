"""Self-contained pages of HTML: templates, and images that are part of them."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
from PIL import Image


@cache
def template(path: Path) -> jinja2.Template:
    """A template, which escapes what it is given, and fails where it is given too little."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(path.name)


def data_uri(image: Image.Image, kind: Literal["jpeg", "webp"], **options: Any) -> str:
    """An image as a URL that needs no file; ``options`` are Pillow's of the format."""
    stream = io.BytesIO()
    image.save(stream, kind.upper(), quality=85, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
