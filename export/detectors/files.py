"""Reading a detector's file: that it is an ONNX file at all, and one of the form of insightface's SCRFD.

What lies under a detector's name is often something else: a page instead of a download, a pointer of Git LFS, half a
file. Each kind is told by name, with what to do; nothing is run here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper, inliner

from cocoer.files import first_line, not_the_file
from cocoer_bls.files import file_digest
from export.detectors.layout import declared_shape, is_detector_size

AGAIN = "download it again"
DEFAULT_DOMAINS = ("", "ai.onnx")
RUNNABLE_DOMAINS = (*DEFAULT_DOMAINS, "ai.onnx.ml", "com.microsoft")
"""Of operators that ONNX Runtime has."""
OUTPUT_COUNTS = (6, 9, 10, 15)


class DetectorError(Exception):
    """A detector's file that can't be used; the message says which, why and what to do."""


def read_detector(source: Path) -> onnx.ModelProto:
    """Read an SCRFD file, weights included where they lie in files of their own.

    Raises:
        DetectorError: it can't be read, is no ONNX file, or is the ONNX file of something else.
    """
    model = _parsed(source)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(source, model)
    _check_form(source, model)
    _load_weights(source, model)
    return model


def check_detector(source: Path, size: int) -> None:
    """Everything about a file that can be told without running it: what ``read_detector`` raises, and its size.

    Args:
        source: the file.
        size: side of the letterbox that it will be given.

    Raises:
        DetectorError: it can't be used.
    """
    check_declared_size(source, read_detector(source), size)


def detector_digest(source: Path) -> str:
    """SHA-256 that changes with the file, and with the files beside it that hold its weights."""
    digests = [file_digest(path) for path in (source, *_weight_files(source, _parsed(source))) if path.is_file()]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def is_synthetic(source: Path) -> bool:
    """Whether the file says of itself that its weights are random."""
    return any(entry.key == "synthetic" for entry in _parsed(source).metadata_props)


def image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The input that is fed; older files list their weights among the inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in weights)


def check_declared_size(source: Path, model: onnx.ModelProto, size: int) -> None:
    """Raise ``DetectorError`` where the declared input is of another size than ``size``."""
    height, width = (declared_shape(image_input(model)) or [])[2:]
    fixed = [side for side in (height, width) if isinstance(side, int)]
    if len(set(fixed)) == 2:
        raise DetectorError(
            f"{source} was exported for images {width} wide and {height} high, and the server's are square; export it "
            "with a dynamic input"
        )
    if fixed and fixed[0] != size:
        raise DetectorError(other_size(source, fixed[0], size))


def other_size(source: Path, found: int, size: int) -> str:
    """What to say of a file that takes ``found`` x ``found`` pixels where ``size`` x ``size`` are wanted."""
    head = f"{source} was exported for {found}x{found}, and this build's detectors are given {size}x{size}; "
    if is_detector_size(found):
        return f"{head}build with --detector-size {found} (it counts for both), or export it with a dynamic input"
    return f"{head}export it with a dynamic input (--detector-size can't be {found})"


def _parsed(source: Path) -> onnx.ModelProto:
    """The file as it is; weights in other files are not looked at."""
    content = _content(source)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError is not public API
        # Every exporter writes the version first: field 1, a small number.
        if content[:1] == b"\x08" and content[1:2] < b"\x20":
            raise DetectorError(f"{source} is cut off or damaged ({len(content)} bytes); {AGAIN}") from error
        raise DetectorError(f"{source} is not an ONNX file; {AGAIN}") from error
    if not model.ir_version and not model.graph.node:
        raise DetectorError(f"{source} is not an ONNX file; {AGAIN}")
    if not model.graph.node or not model.opset_import:
        raise DetectorError(f"{source} is cut off or damaged: it holds no network ({len(content)} bytes); {AGAIN}")
    return model


def _content(source: Path) -> bytes:
    """The file's bytes, unless they tell of themselves that they are something else."""
    try:
        content = source.read_bytes()
    except IsADirectoryError:
        raise DetectorError(f"{source} is a directory; the ONNX file itself has to be there") from None
    except OSError as error:
        raise DetectorError(f"{source} can't be read ({error.strerror or type(error).__name__})") from None
    if problem := not_the_file(content[:1024]):
        raise DetectorError(f"{source} {problem}")
    if content.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise DetectorError(
            f"{source} is an archive (ZIP, gzip or a PyTorch checkpoint), not an ONNX file; unpack it, or export the "
            "network"
        )
    return content


def _check_operators(source: Path, model: onnx.ModelProto) -> None:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = next((versions[domain] for domain in DEFAULT_DOMAINS if domain in versions), 0)
    if not 1 <= version <= onnx.defs.onnx_opset_version():
        raise DetectorError(
            f"{source} is of ONNX opset {version}; this build reads 1 to {onnx.defs.onnx_opset_version()}: export it "
            "with opset 11 to 20"
        )
    unknown = {
        f"{node.domain}.{node.op_type}".lstrip(".")
        for node in model.graph.node
        if node.domain not in RUNNABLE_DOMAINS
        or (node.domain in DEFAULT_DOMAINS and not onnx.defs.has(node.op_type, version, ""))
    }
    if unknown:
        raise DetectorError(
            f"{source} has operators that ONNX opset {version} lacks: {', '.join(sorted(unknown))}; export it without "
            "them"
        )


def _check_form(source: Path, model: onnx.ModelProto) -> None:
    """Raise ``DetectorError`` unless inputs and outputs are those of SCRFD, as far as they are declared."""
    if len(model.graph.output) not in OUTPUT_COUNTS:
        raise DetectorError(
            f"{source}: an SCRFD detector has 6, 9, 10 or 15 outputs, this one has {len(model.graph.output)}"
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise DetectorError(f"{source}: an SCRFD detector has one input, this one has {len(inputs)}")
    kind, shape = inputs[0].type.tensor_type.elem_type, declared_shape(inputs[0])
    wanted = "SCRFD takes FLOAT [1, 3, height, width]"
    if shape is None or len(shape) != 4 or shape[1] not in (3, "?"):
        found = "no declared shape" if shape is None else str(shape).replace("'", "")
        raise DetectorError(f"{source} takes {found}, {wanted}; it is another network, or was exported in another form")
    if kind != TensorProto.FLOAT:
        raise DetectorError(
            f"{source} takes {TensorProto.DataType.Name(kind)}, {wanted}; export it in FP32 (the build's --precision "
            "does the rest)"
        )
    if shape[0] not in (1, "?"):
        raise DetectorError(f"{source} was exported for batches of {shape[0]} images; export it for one")


def _load_weights(source: Path, model: onnx.ModelProto) -> None:
    missing = [path.name for path in _weight_files(source, model) if not path.is_file()]
    if missing:
        raise DetectorError(f"{source} keeps its weights in {', '.join(missing)}, not found beside it; copy both there")
    try:
        external_data_helper.load_external_data_for_model(model, str(source.parent))
    except Exception as error:  # whatever such an entry can say
        raise DetectorError(f"{source}: the files with its weights can't be read ({first_line(error)})") from error


def _weight_files(source: Path, model: onnx.ModelProto) -> list[Path]:
    """The files that hold weights, in the order of their names."""
    tensors = [tensor for tensor in model.graph.initializer if external_data_helper.uses_external_data(tensor)]
    names = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return [source.parent / name for name in sorted(names)]
