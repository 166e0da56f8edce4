"""Recognise emotions in pictures with a running server.

    python client/infer.py img.png [more images] [--persons boxes.json] [--json FILE|-] [--output-dir outputs]

Prints each person's labels and writes the annotated picture.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

# gRPC's own remarks would stand before our one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from client.client import TLS, BoxPair, CocoerClient  # noqa: E402
from client.draw import annotate, open_upright  # noqa: E402
from client.errors import CocoerError, ServerUnavailable  # noqa: E402
from client.report import format_result, shown_warnings  # noqa: E402


class InputFileError(CocoerError):
    """A file of the user's that can't be used."""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recognise emotions in pictures with a running CocoER server.")
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="JPEG, PNG, WebP or BMP files")
    add("--url", default="localhost:8001", help="the server's gRPC address (default: localhost:8001)")
    add(
        "--persons",
        type=Path,
        metavar="BOXES.json",
        help='[{"body": [x1,y1,x2,y2], "head": [...]}] in pixels; no detection then',
    )
    add("--json", metavar="FILE|-", help="write the results as JSON, to a file or (-) instead of the text")
    add("--output-dir", type=Path, default=Path("outputs"), help="where annotated pictures go (default: outputs)")
    add("--timeout", type=float, default=30.0, metavar="S", help="seconds to wait for each picture (default: 30)")
    add("--tls-ca", type=Path, metavar="PEM", help="encrypt, and trust servers certified by this authority")
    for name, what in (
        ("final", "final labels above this probability"),
        ("level", "labels of a level and of V-I above this probability"),
    ):
        add(f"--{name}-threshold", type=float, metavar="P", help=f"{what} (default: the server's)")
    add("--min-score", type=float, metavar="P", help="detections above this score (default: the server's)")
    args = parser.parse_args(argv)
    if args.persons and len(args.images) > 1:
        parser.error("--persons gives the boxes of one picture; run it for each picture")
    if args.timeout <= 0:
        parser.error("--timeout must be more than 0 seconds")
    return args


def read_persons(path: Path) -> list[BoxPair]:
    """Boxes from a JSON file; raises ``InputFileError`` where it is not what ``--persons`` takes."""
    try:
        persons = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: {error}") from error
    if not isinstance(persons, list) or not all(map(_is_box_pair, persons)):
        raise InputFileError(
            f'{path} must hold [{{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}}, ...] in pixels'
        )
    return persons


def _is_box_pair(person: Any) -> bool:
    return isinstance(person, dict) and all(
        isinstance(box := person.get(key), list)
        and len(box) == 4
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)
        for key in ("body", "head")
    )


def write_picture(
    image: Path, result: dict[str, Any], warnings: Sequence[str], directory: Path, taken: set[Path]
) -> Path:
    """Write the annotated picture as PNG, atomically.

    Args:
        image: the picture asked about.
        result: its RESULT object.
        warnings: lines of the banner.
        directory: where to write.
        taken: resolved paths not to write to (the inputs, and what this run has written); the new one is added.
    """
    target = directory / f"{image.stem}.png"
    count = 2
    while target.resolve() in taken:
        target = directory / f"{image.stem}-{count}.png"
        count += 1
    taken.add(target.resolve())
    picture = annotate(open_upright(image), result, warnings)
    replace_file(target, lambda temporary: picture.save(temporary, format="PNG"))
    return target


def write_json(target: str, results: list[dict[str, Any]], several: bool) -> None:
    """One object for one picture, an array for several; to a file (atomically) or standard output."""
    text = json.dumps(results if several else results[0], indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    replace_file(Path(target), lambda temporary: temporary.write_text(text))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def run(args: argparse.Namespace) -> int:
    persons = read_persons(args.persons) if args.persons else None
    thresholds = {name: getattr(args, name) for name in ("final_threshold", "level_threshold", "min_score")}
    results, failures, taken = [], 0, {image.resolve() for image in args.images}
    with CocoerClient(args.url, args.timeout, tls=TLS(args.tls_ca) if args.tls_ca else None) as client:
        client.check_ready()
        for image in args.images:
            try:
                result = client.infer(_read(image), persons, **thresholds)
                results.append({"file": str(image), **result})
                warnings = shown_warnings(result, persons is not None)
                picture = write_picture(image, result, warnings, args.output_dir, taken)
            except (CocoerError, OSError) as error:
                failures += _complain(f"{image}: {error}")
                if isinstance(error, ServerUnavailable):
                    break  # the rest would fail the same way; what is done is kept
                continue
            if args.json != "-":
                print(f"{format_result(str(image), result, persons is not None)}\n\npicture: {picture}", flush=True)
    if args.json and results:
        write_json(args.json, results, several=len(args.images) > 1)
    return 1 if failures else 0


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise InputFileError(error.strerror or str(error)) from error


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return run(args)
    except (CocoerError, OSError) as error:
        return _complain(str(error))


if __name__ == "__main__":
    raise SystemExit(main())
