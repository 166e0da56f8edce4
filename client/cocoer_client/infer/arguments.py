"""The command line of ``cocoer-infer``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import shtab

from cocoer_client.command import add_file, add_server, add_thresholds, check_server, seconds, thresholds_of, whole
from cocoer_client.drawing.figures import BOXES
from cocoer_client.drawing.formats import IMAGE_FORMATS, QUALITY
from cocoer_client.inputs import read_persons
from cocoer_client.pipeline import RunOptions
from cocoer_client.pipeline.options import STYLES
from cocoer_client.timeline.writers import SUFFIXES

EPILOG = """\
examples:
  %(prog)s img.png                                  labels as text, the annotated image in outputs/
  %(prog)s holiday/ 'more/*.jpg'                    folders and globs: a progress bar, a line for each image
  %(prog)s holiday/ --resume --csv holiday.csv      go on where it stopped; a table at the end
  %(prog)s - --json - --no-images < img.png       from a pipe to a pipe
  %(prog)s film.mp4 --frame-step 10                 every tenth frame; an annotated video in outputs/
  %(prog)s film.mp4 --timeline film.html            each person's labels over time, as a page beside the film
  %(prog)s camera:0 --max-frames 100                a camera, until Ctrl-C or 100 frames
  %(prog)s img.png --explain why.html               how the labels came about, as one HTML page

exit status: 0 all done; 1 something failed (the rest is done); 2 wrong usage; 3 no server, or it was lost;
4 the server's model has changed meanwhile; 130 interrupted.
Several inputs leave their results in outputs/results.jsonl as well; --resume reads it.

tab completion: eval "$(cocoer-infer --print-completion bash)"   (or zsh; for the installed command)
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Recognise the emotions of the persons in images and videos, with a running CocoER server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(parser)
    _add_outputs(parser)
    _add_recognition(parser)
    _add_server(parser)
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script for this shell, and exit")
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    inputs = group.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image (JPEG, PNG, WebP, BMP), a folder with all below it, a quoted glob, - (standard input), "
        "a video, camera:N, a URL of an image or a stream (rtsp://...), of a bucket (s3://...), or a .parquet file of "
        "names",
    )
    inputs.complete = shtab.FILE  # type: ignore[attr-defined]
    add_file(
        group,
        "--persons",
        "BOXES.json",
        "boxes of the one image's persons, so that none are detected:"
        ' [{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}, ...] in pixels; without "head", it is looked for',
    )
    group.add_argument("--allow-url", action="store_true", help="fetch inputs that are URLs of images or streams")
    group.add_argument(
        "--column", default="path", metavar="NAME", help="column of names in .parquet inputs (default: path)"
    )
    group.add_argument("--frame-step", type=whole, default=1, metavar="N", help="videos: every N-th frame (default: 1)")
    group.add_argument("--max-frames", type=whole, metavar="N", help="videos: N frames at most")
    group.add_argument(
        "--smooth",
        type=seconds,
        metavar="S",
        help="videos: each person's scores averaged over about S seconds, beside each frame's own (default: not)",
    )
    group.add_argument("--resume", action="store_true", help="skip what an earlier run of the same command has done")
    group.add_argument(
        "--retry-failed", action="store_true", help="with --resume: ask again about images that the server had refused"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    directory = group.add_argument(
        "--output-dir",
        type=Path,
        default=Path("outputs"),
        metavar="DIR",
        help="for annotated images (default: outputs)",
    )
    directory.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    group.add_argument("--no-images", action="store_true", help="draw nothing")
    # Its name before.
    group.add_argument("--no-pictures", dest="no_images", action="store_true", help=argparse.SUPPRESS)
    group.add_argument(
        "--style",
        choices=STYLES,
        default="panel",
        help="how images look; release: as CocoER's own script",
    )
    group.add_argument(
        "--boxes",
        choices=BOXES,
        default="both",
        help="which boxes to draw; heads: without those of bodies, which hide each other in crowds (default: both)",
    )
    group.add_argument(
        "--format",
        choices=IMAGE_FORMATS,
        default="auto",
        help="of annotated images; auto: the input's, PNG for BMP (default: auto)",
    )
    group.add_argument(
        "--quality",
        type=_quality,
        default=QUALITY,
        metavar="N",
        help=f"of annotated images in JPEG and WebP, 1 to 100 (default: {QUALITY})",
    )
    add_file(group, "--explain", "FILE.html", "one image: write how its labels came about, as a page of its own")
    timeline = group.add_argument(
        "--timeline",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="one video: write each person's labels over time, as a page (.html), an image (.png) or a table (.csv); "
        "may be given for each",
    )
    timeline.complete = shtab.FILE  # type: ignore[attr-defined]
    add_file(
        group, "--json", "FILE", "results as JSON, an array if there are several inputs; - instead of the text", str
    )
    add_file(
        group,
        "--jsonl",
        "FILE",
        "results as JSON Lines, as they come (default for several inputs: DIR/results.jsonl); - instead of the text",
        str,
    )
    add_file(group, "--csv", "FILE", "a row for each person; - instead of the text", str)
    add_file(
        group, "--coco", "FILE", "persons as COCO's annotations, labels and scores as their attributes; - likewise", str
    )
    add_file(group, "--parquet", "FILE", "the table of cocoer-batch, in one file (needs pyarrow)")
    group.add_argument("--verbose", action="store_true", help="all of each result, where there are several inputs")
    group.add_argument("--quiet", action="store_true", help="no text, no progress bar; errors only")


def _add_recognition(parser: argparse.ArgumentParser) -> None:
    add_thresholds(parser.add_argument_group("recognition (default: the server's)"))


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", help="its gRPC address (default: $COCOER_URL, else localhost:8001)")
    group.add_argument(
        "--concurrency", type=whole, default=4, metavar="N", help="images on their way at once (default: 4)"
    )
    group.add_argument(
        "--patience",
        type=seconds,
        default=60.0,
        metavar="S",
        help="seconds to wait for a server that gives no answer at all, before the run ends (default: 60)",
    )
    add_server(group, timeout=30.0, retries=3)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; ends the program with status 2 and a message where it makes no sense."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for option, several in (("persons", "the boxes"), ("explain", "the page"), ("timeline", "the persons")):
        if getattr(args, option) and len(args.inputs) > 1:
            what = "video" if option == "timeline" else "image"
            parser.error(f"--{option} gives {several} of one {what}; run it for each {what}")
    if args.inputs.count("-") > 1:
        parser.error("standard input (-) can be read once")
    if [args.json, args.jsonl, args.csv, args.coco].count("-") > 1:
        parser.error("only one of --json, --jsonl, --csv and --coco can go to standard output")
    if args.resume and args.explain:
        parser.error("--explain needs a new answer; leave out --resume")
    if args.resume and "-" in args.inputs:
        parser.error("--resume can't tell whether standard input was done")
    if args.retry_failed and not args.resume:
        parser.error("--retry-failed goes with --resume")
    for path in args.timeline:
        if path.suffix.lower() not in SUFFIXES:
            parser.error(f"--timeline writes {', '.join(SUFFIXES)} files, not {path}")
    check_server(parser, args)
    return args


def options_of(args: argparse.Namespace) -> RunOptions:
    """What the run asks and makes.

    Raises:
        InvalidInput: the file of boxes is none.
    """
    return RunOptions(
        **thresholds_of(args),
        persons=read_persons(args.persons) if args.persons else None,
        concurrency=args.concurrency,
        timeout=args.timeout,
        retries=args.retries,
        patience=args.patience,
        frame_step=args.frame_step,
        max_frames=args.max_frames,
        smooth=args.smooth,
        images=not args.no_images,
        style=args.style,
        image_format=args.format,
        quality=args.quality,
        drawn_boxes=args.boxes,
        output_dir=args.output_dir,
        retry_failed=args.retry_failed,
    )


def _quality(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be from 1 to 100, got {text}")
    return value
