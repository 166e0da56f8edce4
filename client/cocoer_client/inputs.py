"""Images and boxes of the caller's as tensors of a request."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpcclient
from PIL import Image, ImageOps

from cocoer_client.errors import InvalidInput

Pixels = npt.NDArray[np.uint8]
"""UINT8 [H, W, 3], RGB, unless said otherwise."""
ImageLike = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]", Pixels, Image.Image]
"""What can be sent.

bytes: an encoded JPEG, PNG, WebP or BMP. str, path: a file with one. Array: UINT8 [H, W, 3] in RGB order (OpenCV's are
BGR: send ``array[..., ::-1]``), [H, W, 4] (alpha is dropped) or [H, W]. Pillow's images are turned by their EXIF
orientation first, as files are by the server.
"""
Rows = npt.NDArray[np.float32]
"""FP32 [N, 8]: body and head of each person, as ``PERSONS``."""
BoxPair = Mapping[str, "Sequence[float] | None"]
"""``{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}``, pixels; without a head, the server looks for it."""
TO_BE_FOUND = (0.0, 0.0, 0.0, 0.0)
XMP = {"xmp", "XML:com.adobe.xmp"}
"""Pillow's keys of it."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

NOTHING = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
"""A PNG of one black pixel: with no boxes, a request that nothing is computed for."""


def encode_image(image: ImageLike) -> bytes:
    """The bytes to send for an image; arrays and Pillow's images become PNG, which loses nothing.

    Raises:
        InvalidInput: an unreadable file, or an array that is not an image.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise InvalidInput(error.strerror or str(error)) from error
    if isinstance(image, np.ndarray):
        return _as_png(_from_array(image))
    if isinstance(image, Image.Image):
        try:
            return _as_png(upright(image))
        except OSError as error:
            raise InvalidInput(f"the image can't be read: {error}") from error
    raise InvalidInput(f"an image is bytes, a path, a NumPy array or a Pillow image, not {type(image).__name__}")


def upright(image: Image.Image, in_place: bool = False) -> Image.Image:
    """The image turned by its EXIF orientation, as the server turns it; where the EXIF data is damaged, as it is.

    Pillow would turn it by the orientation in XMP too, which neither browsers nor the server do.

    Args:
        image: any of Pillow's.
        in_place: change ``image``, which saves copies.
    """
    if XMP & image.info.keys():
        image = image if in_place else image.copy()
        image.info = {key: value for key, value in image.info.items() if key not in XMP}
    with contextlib.suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):
        if not in_place:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _from_array(array: Pixels) -> Image.Image:
    if array.dtype != np.uint8:
        raise InvalidInput(f"an array must be uint8 with values from 0 to 255, got {array.dtype}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InvalidInput(
            f"an array must have the shape [height, width], [height, width, 3] (RGB) or [height, width, 4], "
            f"got {list(array.shape)}"
        )
    return Image.fromarray(array)


def _as_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    whole = image if image.mode in PNG_MODES else image.convert("RGB")
    whole.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def persons_rows(persons: Sequence[BoxPair]) -> Rows:
    """``PERSONS`` FP32 [N, 8].

    Raises:
        InvalidInput: a person without ``body``, or a box that is not four numbers.
    """
    rows = []
    for index, person in enumerate(persons):
        try:
            head = person.get("head")
            row = [float(value) for value in (*_four(person["body"]), *(TO_BE_FOUND if head is None else _four(head)))]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"person {index}: boxes are {{'body': [x1, y1, x2, y2], 'head': [x1, y1, x2, y2]}} in pixels, "
                f"got {person!r}"[:300]
            ) from error
        rows.append(row)
    return np.array(rows, dtype=np.float32).reshape(len(rows), 8)


def _four(box: Any) -> tuple[float, ...]:
    if len(box) != 4:
        raise ValueError("four numbers")
    return tuple(box)


def request_inputs(images: Sequence[bytes], persons: Sequence[Rows] | None) -> list[grpcclient.InferInput]:
    """``IMAGE`` and, where boxes are given, ``PERSONS`` of a batch; ``persons`` have the same number of rows."""
    tensors = [_tensor("IMAGE", np.array([[image] for image in images], dtype=np.object_), "BYTES")]
    if persons is not None:
        tensors.append(_tensor("PERSONS", np.stack(persons), "FP32"))
    return tensors


def image_inputs(image: bytes, persons: Sequence[BoxPair] | None) -> list[grpcclient.InferInput]:
    """The tensors of one image and, where they are given, its persons' boxes."""
    return request_inputs([image], None if persons is None else [persons_rows(persons)])


def _tensor(name: str, array: npt.NDArray[Any], dtype: str) -> grpcclient.InferInput:
    tensor = grpcclient.InferInput(name, list(array.shape), dtype)
    tensor.set_data_from_numpy(array)
    return tensor


def read_persons(path: Path) -> list[BoxPair]:
    """Boxes from a JSON file; raises ``InvalidInput`` where it is not what ``--persons`` takes."""
    try:
        persons = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    if not isinstance(persons, list) or not all(map(_is_box_pair, persons)):
        raise InvalidInput(
            f'{path} must hold [{{"body": [x1, y1, x2, y2], "head": [x1, y1, x2, y2]}}, ...] in pixels; '
            'without "head", the server looks for it'
        )
    return persons


def _is_box_pair(person: Any) -> bool:
    return (
        isinstance(person, dict) and _is_box(person.get("body")) and ("head" not in person or _is_box(person["head"]))
    )


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and len(box) == 4
    return numbers and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)
