"""JPEGs that are decoded smaller than they are, where a request asks for it: which, how small, what is seen then."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from cocoer.labels import EMOTIC_LABELS
from cocoer_bls.decoding import FACTORS, DecodeLimits, canvas, open_image
from cocoer_bls.errors import InputError
from cocoer_bls.images import crop, crop_smaller, letterbox
from cocoer_bls.inputs import detection_inputs
from cocoer_bls.jobs import Job
from cocoer_bls.options import DEFAULT_LIMITS, DEFAULT_OPTIONS
from cocoer_bls.pipeline import Pipeline
from tests import hostile
from tests.unit.test_pipeline import BUILD, FakeModels

FAST = DEFAULT_OPTIONS.apply({"fast_decode": True})
LIMITS = DecodeLimits(max_bytes=50_000_000, max_pixels=50_000_000)


@pytest.fixture(scope="module")
def sample(sample_bgr):
    """3,000 x 2,400 pixels of a photograph, as a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(sample_bgr[..., ::-1])).resize((3000, 2400)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def turned(data: bytes, orientation: int) -> bytes:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.open(io.BytesIO(data)).save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_smaller_image_looks_like_the_whole_one(sample, factor, orientation):
    opened = open_image(turned(sample, orientation), LIMITS)
    assert opened.load_smaller is not None
    small, whole = opened.load_smaller(False, factor), opened.load(False)
    assert (small.factor, whole.factor) == (factor, 1)
    assert opened.upright_size == whole.pixels.shape[1::-1]
    assert small.pixels.shape == (*(-(-side // factor) for side in whole.pixels.shape[:2]), 3)
    assert canvas.padded(small.pixels) is not None
    boxes = [None, (100, 200, 100 + 224 * factor, 200 + 230 * factor)]
    for box in boxes:
        expected = crop(whole.pixels, box).astype(int)
        found = crop_smaller(small.pixels, box, opened.upright_size)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 3


@pytest.mark.parametrize("size", [(1001, 777), (449, 448)])
def test_sizes_that_no_factor_divides(size):
    opened = open_image(hostile.save(hostile.image(*size), "JPEG"), LIMITS)
    assert opened.load_smaller is not None
    assert opened.load_smaller(False, 2).pixels.shape == (-(-size[1] // 2), -(-size[0] // 2), 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_other_formats_have_no_smaller_image(form):
    assert open_image(hostile.save(hostile.image(), form), LIMITS).load_smaller is None


def test_damage_is_told_of_smaller_images_too(sample):
    opened = open_image(sample[: len(sample) // 2], LIMITS)
    assert opened.load_smaller is not None
    with pytest.raises(ValueError, match="IMAGE is damaged: the file ends inside its image data, and about"):
        opened.load_smaller(False, 2)
    assert opened.load_smaller(True, 2).damage is not None


def test_boxes_are_in_pixels_of_the_whole_image(sample):
    opened = open_image(sample, LIMITS)
    assert opened.load_smaller is not None
    small = opened.load_smaller(False, 2).pixels
    inputs = detection_inputs([small], [0.5], 640, [2400])
    assert inputs["scale"][0, 0] == pytest.approx(letterbox(small)[1] / 2) == pytest.approx(640 / 3000)


class Seeing(FakeModels):
    """Notes the heights of the images that jobs have at each call."""

    def __init__(self):
        super().__init__()
        self.job, self.heights = None, []

    def __call__(self, model, inputs, outputs):
        self.heights.append((model, len(self.job.image)))
        return super().__call__(model, inputs, outputs)

    def detection(self, inputs):
        found = super().detection(inputs)
        return {
            **found,
            "person_boxes": found["person_boxes"] * self.size,
            "face_boxes": found["face_boxes"] * self.size,
        }

    size = 1


def seen(data, options, boxes=None, size=1):
    """The finished job, the heights at each call, and the factors it was decoded by."""
    models, factors = Seeing(), []
    models.size = size
    job = models.job = Job(data, options, None if boxes is None else np.array(boxes, dtype=np.float32))
    pipeline = Pipeline(models, EMOTIC_LABELS, BUILD, DEFAULT_LIMITS)
    decode = pipeline._decode

    def noted(job, factor=1):
        decode(job, factor)
        factors.append(job.factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_decode", noted)
        pipeline.run([job])
    assert job.error is None
    assert job.size == (3000, 2400)
    return job, models.heights, factors


@pytest.mark.parametrize(("side", "factor"), [(223, 1), (447, 1), (448, 2), (895, 2), (896, 4), (1792, 8)])
def test_no_crop_is_enlarged(sample, side, factor):
    boxes = [[10, 10, 2400, 2400, 50, 60, 50 + side, 90 + side]]
    job, _, factors = seen(sample, FAST, boxes)
    assert factors == [factor]
    (person,) = job.persons.values()
    assert person.body == (10, 10, 2400, 2400)
    exact, _, factors = seen(sample, DEFAULT_OPTIONS, boxes)
    assert factors == [1]
    for name in ("head_box", "body_box"):
        np.testing.assert_array_equal(getattr(job.crops, name), getattr(exact.crops, name))
    assert np.abs(job.crops.head_crop.astype(int) - exact.crops.head_crop).mean() < 3


def test_detectors_see_a_smaller_image_and_persons_the_one_they_need(sample):
    """Bodies of 40 x 60 and heads of 10 x 10 pixels, times ``size``."""
    _, heights, factors = seen(sample, FAST, size=45)
    assert (heights, factors) == ([("detection", 1200), ("recognition", 0)], [2])
    _, heights, factors = seen(sample, FAST, size=40)
    assert (heights, factors) == ([("detection", 1200), ("recognition", 0)], [2, 1])
    _, heights, factors = seen(sample, DEFAULT_OPTIONS, size=45)
    assert (heights, factors) == ([("detection", 2400), ("recognition", 0)], [1])


def test_what_is_not_asked_for_is_not_done(sample):
    """Crops are the exact ones byte for byte, unless a request or the configuration says otherwise."""
    job, _, _ = seen(sample, DEFAULT_OPTIONS, [[0, 0, 2400, 2400, 0, 0, 2400, 2400]])
    whole = open_image(sample, LIMITS).load(False).pixels
    np.testing.assert_array_equal(job.crops.body_crop[0], crop(whole, (0, 0, 2400, 2400)))


def test_tiny_jpegs_are_whole():
    """Of which an eighth has as many pixels."""
    for side in (1, 2, 5, 7):
        data = hostile.save(hostile.image(side, side), "JPEG", quality=95)
        expected = np.asarray(Image.open(io.BytesIO(data)))[..., ::-1]
        np.testing.assert_array_equal(open_image(data, LIMITS).load(False).pixels, expected)


def test_damaged_files_are_decoded_smaller_or_refused():
    """As whole ones are: whatever comes, an image or a refusal."""
    outcomes = {"decoded": 0, "refused": 0}
    for data in itertools.islice(hostile.mutations(seed=3), 1500):
        try:
            opened = open_image(data, LIMITS)
            if opened.load_smaller is None:
                continue
            for factor in FACTORS:
                pixels = opened.load_smaller(True, factor).pixels
                assert pixels.shape[:2] == tuple(-(-side // factor) for side in opened.upright_size[::-1])
            outcomes["decoded"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes
