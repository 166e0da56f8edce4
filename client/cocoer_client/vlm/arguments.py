"""The command line of ``cocoer-vlm``."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import shtab

from cocoer_client.command import add_file, add_server, add_thresholds, check_server, seconds, whole
from cocoer_client.vlm.cost import Prices
from cocoer_client.vlm.crops import ImageOptions
from cocoer_client.vlm.modes import MODES, USUAL, Mode
from cocoer_client.vlm.privacy import read_key
from cocoer_client.vlm.settings import EndpointOptions

OPENAI = "https://api.openai.com/v1"
EPILOG = """\
examples:
  %(prog)s photo.jpg --model gpt-4o --send-images-to api.openai.com           ask OpenAI; key in $OPENAI_API_KEY
  %(prog)s photo.jpg --model gpt-4o --dry-run                                 what that would cost; nothing is sent
  %(prog)s photo.jpg --model llava --base-url http://localhost:11434/v1       ask Ollama on this machine
  %(prog)s holiday/ --model m --base-url http://localhost:8000/v1 --collage   for models that take one image
  %(prog)s photo.jpg --model gpt-4o ... --report vlm.html --json vlm.json     the paper's figure as a page; all as data

modes: single (the whole image), multi (context, body and head as images of their own), enhanced (multi without the
level that CocoER excludes first); controls: exclude_random, exclude_last.

exit status: 0 all asked; 1 something failed (the rest is done); 2 wrong usage; 3 no server, or none of this model;
4 CocoER's model has changed meanwhile; 130 interrupted. Answers are kept in --cache: the same command goes on, and
pays for nothing twice.

tab completion: eval "$(cocoer-vlm --print-completion bash)"   (or zsh; for the installed command)
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Ask a vision-language model about each person that a running CocoER server finds: with the whole "
        "image, with all three levels, and without the level that CocoER excludes first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs = parser.add_argument(
        "inputs", nargs="*", metavar="IMAGE", help="an image, a folder with all below it, a quoted glob"
    )
    inputs.complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("--allow-url", action="store_true", help="fetch inputs that are URLs of images")
    add_model(parser.add_argument_group("vision-language model"))
    group = parser.add_argument_group("questions")
    add_questions(group)
    group.add_argument("--seed", type=int, default=0, metavar="N", help="another draw of exclude_random (default: 0)")
    _add_outputs(parser.add_argument_group("output"))
    group = parser.add_argument_group("CocoER's server")
    group.add_argument("--url", help="its gRPC address (default: $COCOER_URL, else localhost:8001)")
    add_server(group, timeout=30.0, retries=3)
    add_thresholds(parser.add_argument_group("recognition (default: the server's)"))
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script for this shell, and exit")
    return parser


def add_model(group: argparse._ArgumentGroup) -> None:
    """Whom to ask: ``--model``, ``--base-url`` and so on."""
    add = group.add_argument
    add("--model", metavar="NAME", help="as its server names it")
    add(
        "--base-url",
        default=os.environ.get("OPENAI_BASE_URL") or OPENAI,
        metavar="URL",
        help=f"where its interface begins, as a rule with /v1 (default: $OPENAI_BASE_URL, else {OPENAI})",
    )
    add("--send-images-to", metavar="HOST", help="images of people may leave this machine, for this host")
    add_file(group, "--api-key-file", "FILE", "holds the server's key (default: what $OPENAI_API_KEY is)")
    add("--concurrency", type=whole, default=4, metavar="N", help="persons asked about at once (default: 4)")
    add("--model-timeout", type=seconds, default=120.0, metavar="S", help="seconds for an answer (default: 120)")
    add(
        "--model-retries",
        type=int,
        default=4,
        metavar="N",
        help="times to ask again after 429, 5xx or silence; Retry-After is kept to (default: 4)",
    )
    add("--max-tokens", type=whole, default=400, metavar="N", help="of an answer (default: 400)")


def add_questions(group: argparse._ArgumentGroup, usual: Sequence[Mode] = USUAL) -> None:
    """What to ask: ``--modes``, by default ``usual``, ``--prompt`` and so on."""
    add = group.add_argument
    add(
        "--modes",
        type=_modes,
        default=tuple(usual),
        metavar="LIST",
        help=f"of {','.join(MODES)} (default: {'all' if tuple(usual) == MODES else ','.join(usual)})",
    )
    add("--collage", action="store_true", help="one image of the levels side by side, for models that take one")
    add("--longest-side", type=whole, default=1024, metavar="N", help="of each image, pixels (default: 1024)")
    add("--detail", choices=("auto", "low", "high"), default="auto", help="how closely OpenAI's models look")
    add_file(group, "--prompt", "FILE", "another prompt; begin with --show-prompt > FILE")
    add("--show-prompt", action="store_true", help="print the prompt, and exit")
    cache = add("--cache", type=Path, default=default_cache(), metavar="DIR", help="for answers (default: %(default)s)")
    cache.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    add("--no-cache", action="store_true", help="ask everything anew, and keep nothing")
    add("--dry-run", action="store_true", help="say how many requests and tokens it would be; ask nothing")
    add(
        "--prices",
        type=_prices,
        metavar="IN,OUT",
        help="of a million tokens that are sent, and that come back: tells the cost in money, too",
    )
    add("--max-requests", type=whole, metavar="N", help="don't begin where it would be more")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    add_file(group, "--report", "FILE.html", "the images as sent and the answers side by side, as a page of its own")
    add_file(group, "--json", "FILE", "everything as JSON; - instead of the text", str)
    group.add_argument("--quiet", action="store_true", help="no text; errors only")


def default_cache() -> Path:
    """Where answers are kept, by the conventions of desktops."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cocoer-vlm"


def _modes(text: str) -> tuple[Mode, ...]:
    given = [name.strip() for name in text.split(",")]
    unknown = [name for name in given if name not in MODES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no mode {', '.join(unknown)}; there are {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in given)


def _prices(text: str) -> Prices:
    try:
        sent, back = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers, as in 2.5,10, not {text}") from None
    if not (0 <= sent < math.inf and 0 <= back < math.inf):
        raise argparse.ArgumentTypeError(f"must be two numbers of at least 0, not {text}")
    return sent, back


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; ends the program with status 2 and a message where it makes no sense."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.show_prompt and not args.inputs:
        parser.error("name at least one image")
    check_model(parser, args)
    check_server(parser, args)
    return args


def check_model(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where options of ``add_model`` are missing or make no sense."""
    if not args.show_prompt and not args.model:
        parser.error("--model is needed: the model's name, as its server has it")
    if args.model_retries < 0:
        parser.error("--model-retries must be 0 or more")


def endpoint_of(args: argparse.Namespace) -> EndpointOptions:
    """Whom to ask; raises ``InvalidInput`` where the key can't be read."""
    return EndpointOptions(
        model=args.model,
        base_url=args.base_url,
        key=read_key(args.api_key_file),
        timeout=args.model_timeout,
        retries=args.model_retries,
        max_tokens=args.max_tokens,
    )


def images_of(args: argparse.Namespace) -> ImageOptions:
    """How images are sent."""
    return ImageOptions(longest_side=args.longest_side, collage=args.collage)
