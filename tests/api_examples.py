"""Examples of the OpenAPI document, from a gateway that runs with the tests' weights.

python -m tests.api_examples http://127.0.0.1:8080 client/cocoer_client/web/examples.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from tests.hostile import png_chunk, png_header, scan_bomb

SAMPLE = Path(__file__).resolve().parent.parent / "examples" / "astronaut.png"


def provoked(url: str) -> dict[str, str]:
    """Reason -> the detail of such a problem."""
    image = SAMPLE.read_bytes()
    asked: dict[str, dict[str, Any]] = {
        "empty": {"data": b""},
        "bytes": {"data": bytes(33 << 20)},
        "format": {"data": b"GIF89a" + bytes(100)},
        "pixels": {"data": png_header(50_000, 50_000) + png_chunk(b"IDAT", b"")},
        "scans": {"data": scan_bomb(64, 64, 200)},
        "damaged": {"data": image[: len(image) // 2]},
        "persons": {"data": image, "params": {"persons": '[{"body": [300, 20, 100, 400]}]'}},
        "parameter": {"data": image, "params": {"final_threshold": "2"}},
        "body": {"files": {"photo": image}},
        "media-type": {"data": b"{}", "headers": {"Content-Type": "application/json"}},
        "accept": {"data": image, "headers": {"Accept": "text/plain"}},
    }
    details = {}
    for reason, arguments in asked.items():
        problem = requests.post(f"{url}/v1/recognise", timeout=60, **arguments).json()
        if problem["reason"] != reason:
            raise ValueError(f"{reason} expected, got {problem}")
        details[reason] = problem["detail"]
    return details


def as_text(content: dict[str, Any]) -> str:
    """JSON with a line for each value of the first two levels."""
    parts = [
        f" {json.dumps(name)}: {{\n"
        + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
        + "\n }"
        for name, part in content.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the examples of the OpenAPI document.")
    parser.add_argument("url", help="of a gateway, http://host:port")
    parser.add_argument("path", type=Path, metavar="FILE", help="where to")
    args = parser.parse_args(argv)
    form = {"persons": (SAMPLE.parent / "persons.json").read_text()}
    with SAMPLE.open("rb") as image:
        answer = requests.post(f"{args.url}/v1/recognise", files={"image": image}, data=form, timeout=60)
    answer.raise_for_status()
    result = json.loads(answer.text, parse_float=lambda text: round(float(text), 4))
    about = requests.get(f"{args.url}/v1/model", timeout=60).json()
    content = {"result": result, "about": about, "details": provoked(args.url)}
    args.path.write_text(as_text(content))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
