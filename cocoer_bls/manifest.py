"""What belongs to this build: the files beside this model, checked before anything is served.

``build.json`` holds what the export wrote: of each ONNX file, plan and label file its SHA-256, of each
``config.pbtxt`` the digest of its contract (tensors, steps, batch sizes). What an operator may tune (instances, queues,
limits) is not part of that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from cocoer_bls.files import file_digest

BUILD_FILE, LABELS_FILE = "build.json", "labels.txt"
Detection = Literal["scrfd", "opencv"]
"""How persons are found: ``detection`` of ``build.json``, whose ``detector`` is a text for people."""

TUNABLE = frozenset(
    ("instance_group", "dynamic_batching", "model_warmup", "optimization", "parameters", "response_cache")
)
"""Fields of a configuration that may be changed without a new build."""
TOKEN = re.compile(r"""\s+|\#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{}\[\]<>:;,]|[^\s{}\[\]<>:;,"'#]+""")
REMEDY = "Build the repository again: python export/build_engines.py"
SHOWN = 3
"""Problems named in one message."""


class ManifestError(Exception):
    """The repository is not what was built; names the files and what to do."""


def contract_digest(config: str) -> str:
    """SHA-256 over the fields of a ``config.pbtxt`` that a build decides; layout, comments and tuning don't count.

    >>> one = 'name: "a"  # mine' + chr(10) + 'instance_group { count: 2 }'
    >>> contract_digest(one) == contract_digest('name: "a"') != contract_digest('name: "b"')
    True
    """
    fields = [field for field in _top_level_fields(config) if field[0] not in TUNABLE]
    return hashlib.sha256(json.dumps(sorted(fields, key=lambda field: field[0])).encode()).hexdigest()


def _top_level_fields(config: str) -> Iterator[list[str]]:
    """Protobuf's text format, cut into its outermost fields: name, then the tokens of the value."""
    field: list[str] = []
    depth = 0
    for token in (match[0] for match in TOKEN.finditer(config)):
        if token.isspace() or token.startswith("#") or token in ":;,":
            continue
        field.append(token)
        depth += (token in "{[<") - (token in "}]>")
        if depth == 0 and len(field) > 1:
            yield field
            field = []
    if field:
        yield field


def digest_of(path: Path) -> str:
    """What the manifest holds of a file."""
    return contract_digest(path.read_text()) if path.name == "config.pbtxt" else file_digest(path)


def read(path: Path) -> dict[str, Any]:
    """``build.json``.

    Raises:
        ManifestError: it can't be read, or is from another version.
    """
    try:
        build = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} can't be read ({error}). {REMEDY}") from None
    if not isinstance(build, dict) or not isinstance(build.get("files"), dict) or "plans" not in build:
        raise ManifestError(f"{path} lists no files or plans, so it is of an earlier version. {REMEDY}")
    if build.get("detection") not in get_args(Detection):
        raise ManifestError(f"{path} does not say how persons are found, so it is of another version. {REMEDY}")
    size = build.get("detector_size")
    if build["detection"] == "scrfd" and not (isinstance(size, int) and size > 0):
        raise ManifestError(
            f"{path} does not say how large the detectors' letterbox is, so it is of another version. {REMEDY}"
        )
    return build


def tolerances_by_hand(build: Mapping[str, Any]) -> list[str]:
    """A warning for each model that was accepted by a tolerance that the user set (``--tolerance``).

    >>> tolerances_by_hand({"tolerances": {"fusion": {"tolerance": 0.01, "default": 0.001, "error": 0.0042}}})
    ['fusion was accepted by a tolerance set by hand: 0.01 instead of 0.001; its error against its reference is 0.0042']
    """
    return [
        f"{name} was accepted by a tolerance set by hand: {told['tolerance']:g} instead of {told['default']:g}; "
        f"its error against its reference is {told['error']:.2g}"
        for name, told in build.get("tolerances", {}).items()
    ]


def check(repository: Path, files: Mapping[str, str]) -> bool:
    """Compare the repository with the manifest.

    Args:
        repository: the directory of the models.
        files: path in it -> digest, from ``build.json``.

    Returns:
        False where the models don't lie beside each other (Triton copies them one by one from cloud storage), so that
        nothing could be compared.

    Raises:
        ManifestError: a file is missing, can't be read, or is another one.
    """
    if not any((repository / name).parent.is_dir() for name in files if not name.startswith("cocoer/")):
        return False
    problems = [problem for name, digest in files.items() if (problem := _problem(repository / name, digest))]
    if problems:
        shown = "; ".join(problems[:SHOWN]) + (f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else "")
        raise ManifestError(f"{shown}. {REMEDY}")
    return True


def _problem(path: Path, digest: str) -> str:
    """What is wrong with a file; empty if nothing."""
    try:
        found = digest_of(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} can't be read ({getattr(error, 'strerror', None) or type(error).__name__})"
    return "" if found == digest else f"{path} is not the file of this build (SHA-256 differs)"
