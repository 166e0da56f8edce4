"""Which media type a caller gets, by the header ``Accept`` (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cocoer_client.web.problems import Problem

_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
MAX_RANGES = 64
"""Of one header; what follows them is not looked at."""


def acceptable(accept: str | None, offered: Sequence[str]) -> list[str]:
    """Those of the media types that may be sent, the most welcome first.

    A media type has the weight of the range that names it most closely. Of equal weights, the one that is named more
    closely comes first, then the one that is offered first.

    Args:
        accept: the header; None or empty: anything may be sent.
        offered: media types without parameters.

    >>> acceptable("image/*;q=0.5, image/webp", ["image/png", "image/webp"])
    ['image/webp', 'image/png']
    >>> acceptable("text/html, */*;q=0.1, image/png;q=0", ["image/png", "image/jpeg"])
    ['image/jpeg']
    >>> acceptable(None, ["image/png"]), acceptable("text/html", ["image/png"])
    (['image/png'], [])
    """
    if not accept or not accept.strip():
        return list(offered)
    ranges = _ranges(accept)
    ranked = []
    for place, media_type in enumerate(offered):
        matching = [
            (closeness, ranges[name])
            for closeness, name in enumerate(("*/*", f"{media_type.partition('/')[0]}/*", media_type))
            if name in ranges
        ]
        if matching and (weight := matching[-1][1]) > 0:
            ranked.append((-weight, -matching[-1][0], place, media_type))
    return [media_type for *_, media_type in sorted(ranked)]


def require_acceptable(accept: str | None, offered: Sequence[str]) -> list[str]:
    """As ``acceptable``; raises ``Problem`` where nothing is."""
    found = acceptable(accept, offered)
    if not found:
        raise Problem("accept", f"this is answered with {' or '.join(offered)}; name one of them in Accept, or */*")
    return found


def _ranges(accept: str) -> dict[str, float]:
    """Media ranges and their weights. Other parameters than the weight are not looked at; what is none is left out."""
    found: dict[str, float] = {}
    for text in accept.split(",", MAX_RANGES)[:MAX_RANGES]:
        name, *parameters = (part.strip().lower() for part in text.split(";"))
        weight = next((value[2:].strip() for value in parameters if value.startswith("q=")), "1")
        if name.count("/") == 1 and _WEIGHT.fullmatch(weight):
            found[name] = max(float(weight), found.get(name, 0.0))
    return found
