"""The compiled resize: Pillow's bytes, and Pillow itself wherever it can't be had."""

import logging
import shutil

import numpy as np
import pytest

from cocoer_bls import images
from cocoer_bls.decoding.canvas import canvas
from cocoer_bls.manifest import ManifestError, check
from cocoer_bls.resampling import LIBRARY, SOURCE, NoLibrary, Resampler
from export.options import Options
from export.publishing import compiling
from export.publishing.repository import check_whole, complete, files_of

SIZES = ((640, 480), (480, 640), (223, 1000), (225, 224), (224, 224), (3000, 40), (40, 3000), (1, 1), (1, 700), (5, 3))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The compiled library."""
    if (content := compiling.compiled()) is None:
        pytest.skip("there is no C compiler, or the CPU is none that the library is for")
    path = tmp_path_factory.mktemp("library") / LIBRARY
    path.write_bytes(content)
    return path


@pytest.fixture
def own_compilation():
    """What this test compiles is not kept for others."""
    compiling.compiled.cache_clear()
    yield
    compiling.compiled.cache_clear()


def boxes_of(width, height, count, rng):
    corners = rng.integers(0, (width, height), (count, 2, 2))
    (low, high) = corners.min(axis=1), corners.max(axis=1) + 1
    return [tuple(map(int, (*first, *end))) for first, end in zip(low, high)]


@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_are_pillows(size, library, monkeypatch, rng):
    width, height = size
    image = canvas(height, width)
    image[...] = rng.integers(0, 256, image.shape, dtype=np.uint8)
    boxes = [None, (0, 0, 1, height), (0, height - 1, width, height), *boxes_of(width, height, 30, rng)]
    expected = [images.crop(image.copy(), box) for box in boxes]  # a copy is no canvas
    monkeypatch.setattr(images, "_for_pillow", None)
    monkeypatch.setattr(images, "resampler", lambda: Resampler(library))
    for box, crop in zip(boxes, expected):
        np.testing.assert_array_equal(images.crop(image, box), crop, err_msg=str(box))


def test_black_and_white_stay_so(library):
    """Where sums are largest, and nothing may overflow."""
    resample = Resampler(library)
    for value in (0, 255):
        pixels = np.full((230, 70_000, 4), value, dtype=np.uint8)
        assert (resample(pixels, (0, 0, 70_000, 230), images.CROP, False) == value).all()


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 7, 5), (0, 0, 6, 6), (3, 0, 3, 5), (0, 4, 6, 4)])
def test_nothing_outside_of_the_image_is_read(box, library):
    with pytest.raises(ValueError, match="not in an image of 6x5"):
        Resampler(library)(np.zeros((5, 6, 4), np.uint8), box, images.CROP, False)


@pytest.mark.parametrize(
    "pixels", [np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6, 4), np.int8), np.zeros((5, 12, 4), np.uint8)[:, ::2]]
)
def test_pixels_are_those_of_a_canvas(pixels, library):
    with pytest.raises(ValueError, match="UINT8"):
        Resampler(library)(pixels, (0, 0, 6, 5), images.CROP, False)


@pytest.mark.parametrize("content", [None, b"", b"no library", b"\x7fELF"])
def test_pillow_resizes_where_there_is_no_library(content, tmp_path):
    path = tmp_path / LIBRARY
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoLibrary, match="no C compiler" if content is None else "can't be loaded"):
        Resampler(path)


def test_a_build_has_the_library_and_knows_it(library, tmp_path):
    complete(Options(repository=tmp_path), {"version": "1", "plans": []})
    path = compiling.library_path(tmp_path)
    name = path.relative_to(tmp_path).as_posix()
    assert name == "cocoer/1/cocoer_bls/resampling/resample.so"
    assert path.read_bytes() == library.read_bytes()
    files = files_of(tmp_path)
    assert name in files
    Resampler(path)
    path.write_bytes(b"another")
    with pytest.raises(ManifestError, match="resample.so is not the file"):
        check(tmp_path, files)


def test_a_build_without_a_compiler_is_whole(tmp_path, monkeypatch, caplog, own_compilation):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiling.platform, "machine", lambda: "x86_64")
    with caplog.at_level(logging.WARNING):
        complete(Options(repository=tmp_path), {"version": "1", "plans": []})
    assert "no C compiler (cc, gcc, clang) on PATH" in caplog.text
    assert not compiling.library_path(tmp_path).exists()
    check_whole(tmp_path)


def test_other_cpus_are_not_spoken_of(monkeypatch, caplog, own_compilation):
    monkeypatch.setattr(compiling.platform, "machine", lambda: "aarch64")
    assert compiling.compiled() is None
    assert not caplog.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("#define HALF (1 <<", "#define HALF (0 <<", "does not make the bytes of Pillow"), ("int32_t", "in", "error")],
)
def test_what_is_compiled_wrong_is_not_published(old, new, told, library, tmp_path, caplog):
    shutil.copytree(compiling.MODEL_CODE / "resampling", tmp_path / "resampling")
    source = tmp_path / "resampling" / SOURCE
    source.write_text(source.read_text().replace(old, new))
    assert compiling.compiled(tmp_path) is None
    assert told in caplog.text


def test_the_compiler_is_the_callers(tmp_path, monkeypatch):
    own = tmp_path / "my-cc"
    own.write_text("#!/bin/sh\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setenv("CC", str(own))
    assert compiling.compiler() == str(own)
    with pytest.raises(NoLibrary, match="my-cc does not compile"):
        compiling._compile(compiling.MODEL_CODE / "resampling" / SOURCE, tmp_path / LIBRARY)
