"""Hostile files and boxes against the functions of the BLS; ``tests/serving`` sends them to a server."""

import gc
import io
import itertools
import os
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls import images, manifest
from cocoer_bls.boxes import detected_persons, given_persons
from cocoer_bls.decoding.canvas import canvas
from cocoer_bls.errors import REASONS, InputError, describe
from cocoer_bls.images import DecodeLimits, decode
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS, Limits, Options
from cocoer_bls.pipeline import Pipeline
from export.publishing.configs import cocoer_config
from tests import hostile
from tests.conftest import PROJECT
from tests.unit.test_pipeline import BUILD, FakeModels

CONFIG = {key: {"string_value": value.string_value} for key, value in cocoer_config().parameters.items()}
LIMITS = Limits.from_config(CONFIG).decode


def outcome(call):
    """What a call returns, and the refusal it raises instead."""
    try:
        return call(), None
    except InputError as error:
        return None, error


def by_name(samples):
    return pytest.mark.parametrize("sample", samples, ids=lambda sample: sample.name)


@by_name(hostile.good_samples())
def test_good_files_are_decoded(sample):
    image = decode(sample.data, LIMITS)
    assert image.dtype == np.uint8
    assert image.shape == (sample.size[1], sample.size[0], 3)


@by_name(hostile.bad_samples())
def test_bad_files_are_refused_for_what_is_wrong(sample):
    with pytest.raises(InputError) as caught:
        decode(sample.data, LIMITS)
    assert caught.value.reason == sample.verdict, caught.value


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "JPEG" else {}
    data = hostile.save(hostile.image(), form, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    difference = np.abs(decode(data, LIMITS)[..., ::-1].astype(int) - expected)
    assert difference.max() <= (2 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(form):
    frames = [hostile.image(), hostile.image().rotate(180)]
    data = hostile.save(frames[0], form, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    np.testing.assert_array_equal(decode(data, LIMITS)[..., ::-1], np.asarray(frames[0]))


def test_cmyk_is_close_to_pillows_colours():
    data = hostile.save(hostile.image(mode="CMYK"), "JPEG", quality=100)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode(data, LIMITS)[..., ::-1] - expected).mean() < 3


def test_mutated_files_are_decoded_or_refused():
    outcomes = {}
    for data in itertools.islice(hostile.mutations(seed=1), 1500):
        image, error = outcome(lambda data=data: decode(data, LIMITS))
        assert image is None or image.shape[0] * image.shape[1] <= LIMITS.max_pixels
        key = "decoded" if error is None else error.reason
        outcomes[key] = outcomes.get(key, 0) + 1
    # The mutations reach both the decoders and the refusals before them.
    assert min(outcomes[key] for key in ("decoded", "damaged", "format")) > 50, outcomes


def test_decoders_write_nothing_to_the_log(capfd):
    for data in itertools.islice(hostile.mutations(seed=2), 300):
        outcome(lambda data=data: decode(data, LIMITS))
    assert capfd.readouterr().err == ""


def test_a_scan_bomb_costs_no_more_than_a_image():
    """The most scans that are allowed, at the most pixels a JPEG of few bytes has: seconds, not minutes."""
    started = time.process_time()
    decode(hostile.scan_bomb(1000, 1000, images.MAX_SCANS - 10), LIMITS)
    assert time.process_time() - started < 10


def test_out_of_memory_is_not_the_files_fault(monkeypatch):
    def load(image):
        raise MemoryError

    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(MemoryError) as caught:
        decode(hostile.save(hostile.image(), "PNG"), LIMITS)
    assert describe(caught.value)[::2] == ("UNAVAILABLE", "memory")


@pytest.mark.parametrize("fast", [False, True])
def test_refused_images_hold_no_pixels(monkeypatch, fast):
    """Nor do their errors, until a batch is answered: a batch of damaged images would not keep to max_batch_pixels."""
    canvases, whole = [], hostile.save(hostile.image(24, 18).resize((900, 900)), "JPEG")

    def noted(height, width):
        pixels = canvas(height, width)
        canvases.append(weakref.ref(pixels.base))
        return pixels

    monkeypatch.setattr("cocoer_bls.decoding.jpeg.canvas", noted)
    options = DEFAULT_OPTIONS.apply({"fast_decode": fast})
    jobs = [Job(whole[: len(whole) // 2], options, np.zeros((0, 8), dtype=np.float32)) for _ in range(3)]
    gc.disable()
    try:
        Pipeline(FakeModels(), EMOTIC_LABELS, BUILD, DEFAULT_LIMITS).run(jobs)
        assert [job.error.reason for job in jobs] == ["damaged"] * 3
        assert [one() for one in canvases] == [None] * 3
    finally:
        gc.enable()


PEAK = """
import re, sys
from cocoer_bls.images import DecodeLimits, decode
most = lambda: int(re.search("VmHWM:[ ]+([0-9]+)", open("/proc/self/status").read().replace("\\t", " "))[1])
data = sys.stdin.buffer.read()
before = most()
decode(data, DecodeLimits(len(data), 50_000_000))
print((most() - before) / 1024)
"""


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "RGB"), ("PNG", "RGBA")])
def test_memory_of_the_largest_image(form, mode):
    """What decoding takes at its peak, at the default limit; docs/operations.md has the figures."""
    data = hostile.save(Image.new(mode, (8000, 6250), "gray"), form)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    run = subprocess.run([sys.executable, "-c", PEAK], input=data, capture_output=True, env=environment, check=True)
    megabytes = float(run.stdout)
    print(f"decoding 50 megapixels of {form} {mode} takes {megabytes:.0f} MB at its peak")
    assert 140 < megabytes < 800  # the pixels themselves are 143


def test_formats_are_an_allow_list():
    png = hostile.save(hostile.image(), "PNG")
    with pytest.raises(InputError, match="a PNG file, not an image in JPEG format"):
        decode(png, DecodeLimits(10_000, 10_000, ("JPEG",)))
    assert decode(png, DecodeLimits(10_000, 10_000, ("PNG", "JPEG"))).shape == (36, 48, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": "JPEG, GIF"}, "formats: GIF can't be served; there are JPEG, PNG, WEBP, BMP, AVIF, HEIC"),
        ({"formats": ""}, "formats"),
        ({"max_bytes": "many"}, "max_bytes must be a whole number above 0, got 'many'"),
        ({"max_pixels": "0"}, "max_pixels must be a whole number above 0"),
        ({"max_batch_pixels": "49999999"}, "max_batch_pixels must be at least max_pixels, 50000000, got 49999999"),
        ({"max_persons": "-1"}, "max_persons must be a whole number above 0"),
        ({"max_batch_persons": "0"}, "max_batch_persons must be a whole number above 0"),
        ({"max_batch_persons": "129"}, "max_batch_persons may be 128 at most, got 129"),
    ],
)
def test_limits_that_make_no_sense_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Limits.from_config({**CONFIG, **{name: {"string_value": value} for name, value in change.items()}})


floats = st.floats(width=32) | st.floats(-50, 700, width=32)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(floats, min_size=8, max_size=8), max_size=12), st.integers(1, 3000), st.integers(1, 3000))
def test_any_boxes_given(rows, width, height):
    """Refused with a reason, or each box has a pixel and lies within the image."""
    array = np.array(rows, dtype=np.float32).reshape(-1, 8)
    persons, error = outcome(lambda: given_persons(array, width, height, max_persons=10))
    if error is not None:
        assert error.reason == "persons"
        assert len(str(error)) < 400
    else:
        assert len(persons) == len(rows) <= 10
        check_inside([pair for pair in persons if pair.head is not None], width, height)
        assert [row[4:] == [0] * 4 for row in rows] == [pair.head is None for pair in persons]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(floats.filter(np.isfinite), min_size=4, max_size=4), max_size=20), st.integers(1, 900))
def test_any_boxes_detected(rows, side):
    array = np.array(rows, dtype=np.float32).reshape(-1, 4)
    check_inside(detected_persons(array, array[::-1], side, side), side, side)


def check_inside(persons, width, height):
    for person in persons:
        for x1, y1, x2, y2 in person:
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=9), children, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["final_threshold", "level_threshold", "min_score", "timing", "on_damage"]) | st.text(
    max_size=300
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(names, json_values, max_size=6))
def test_any_parameters(parameters):
    defaults = Options.from_config(CONFIG)
    options, error = outcome(lambda: defaults.apply(parameters))
    if error is not None:
        assert error.reason == "parameter"
        assert len(str(error)) < 400
    else:
        assert all(0 <= p <= 1 for p in (options.final_threshold, options.level_threshold, options.min_score))
        assert isinstance(options.timing, bool)
        assert options.on_damage in ("refuse", "accept")


def test_every_reason_is_used():
    """A reason nobody gives would be a metric nobody understands."""
    verdicts = {sample.verdict for sample in hostile.bad_samples()} - {hostile.GOOD}
    assert verdicts | {"persons", "parameter", "request"} == set(REASONS)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}[]<>:;,\"'# \nab1", max_size=60))
def test_any_text_has_a_contract(text):
    assert len(manifest.contract_digest(text)) == 64
