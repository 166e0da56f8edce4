"""The images of the three levels: the served network's pixels, whatever the file; no size that a model refuses."""

import functools
import io
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from cocoer_bls.decoding import FORMATS, DecodeLimits, read_image
from cocoer_bls.images import CROP, crop
from cocoer_client.drawing.images import open_as_served
from cocoer_client.errors import InvalidInput
from cocoer_client.protocol import CROP_SIDE
from cocoer_client.vlm.asking import Questions, Subject
from cocoer_client.vlm.crops import Cutter, ImageOptions, cut
from cocoer_client.vlm.modes import MODES, TOLD
from cocoer_client.vlm.prompt import Prompt
from cocoer_client.vlm.scaling import GREY, MAX_ASPECT, MIN_SIDE, padded, resampled, sent_size
from tests import hostile
from tests.results import make_person

WIDTH, HEIGHT = 420, 360
BODY, HEAD = (31, 20, 330, 349), (101, 33, 290, 270)
PERSON = {"body_box": list(BODY), "head_box": list(HEAD)}
QUALITY = ImageOptions().quality


@functools.cache
def photo(mode="RGB"):
    """Smooth as photographs are, and nowhere the same: a shifted crop has other pixels."""
    rng = np.random.default_rng(7)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 10, 3), dtype=np.uint8))
    return coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert(mode)


def turned(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return hostile.save(photo(), form, exif=exif)


def sixteen_bits():
    deep = np.asarray(photo("L")).astype(np.uint16) << 8 | 0x5A
    return hostile.save(Image.fromarray(deep), "PNG")


FILES = {
    "JPEG": lambda: hostile.save(photo(), "JPEG", quality=95),
    "progressive JPEG": lambda: hostile.save(photo(), "JPEG", quality=80, progressive=True),
    "grey JPEG": lambda: hostile.save(photo("L"), "JPEG"),
    "CMYK JPEG": lambda: hostile.save(photo("CMYK"), "JPEG"),
    "16-bit PNG": sixteen_bits,
    **{f"PNG {mode}": functools.partial(lambda m: hostile.save(photo(m), "PNG"), mode) for mode in ("RGB", "P", "1")},
    **{f"PNG {mode}": functools.partial(lambda m: hostile.save(photo(m), "PNG"), mode) for mode in ("LA", "RGBA")},
    "half-transparent PNG": lambda: hostile.save(half_transparent(), "PNG"),
    "WebP with alpha": lambda: hostile.save(half_transparent(), "WEBP"),
    "BMP": lambda: hostile.save(photo(), "BMP"),
    **{f"JPEG turned {code}": functools.partial(turned, "JPEG", code) for code in range(1, 9)},
    "PNG turned 6": functools.partial(turned, "PNG", 6),
    "WebP turned 8": functools.partial(turned, "WEBP", 8),
}


def half_transparent():
    image = photo("RGBA").copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def served(data):
    """The image as the server decodes it: UINT8 [height, width, 3], BGR."""
    return read_image(data, DecodeLimits(1 << 24, 1 << 24, formats=FORMATS[:4])).pixels


def decoded(sent):
    """Of a sent image: [height, width, 3], RGB."""
    with Image.open(io.BytesIO(sent.data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", sent.size)
        return np.asarray(image).astype(int)


def encoded(pixels):
    """BGR pixels after a JPEG of the same quality that Pillow has no part in: RGB."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), options)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def sliced(pixels, box):
    x1, y1, x2, y2 = box
    return pixels[y1:y2, x1:x2]


@pytest.mark.parametrize("name", FILES)
def test_crops_are_the_served_networks_pixels(name):
    """Those that the server's decoder cuts out by RESULT's boxes and shrinks to 224 x 224; sent by one JPEG."""
    data = FILES[name]()
    pixels = served(data)
    swap = pixels.shape[0] > pixels.shape[1]
    assert swap == ("turned" in name and int(name[-1]) >= 5)
    boxes = {"body": BODY, "head": HEAD}
    if swap:
        boxes = {level: (box[1], box[0], box[3], box[2]) for level, box in boxes.items()}
    cutter = Cutter(open_as_served(data), ImageOptions())
    person = {f"{level}_box": list(box) for level, box in boxes.items()}
    pictures, sent = cutter.pictures(person), cutter.crops(person)
    for level in TOLD:
        box = boxes.get(level, (0, 0, *pixels.shape[1::-1]))
        picture = pictures[level]
        assert np.array_equal(np.asarray(picture)[..., ::-1], sliced(pixels, box))
        network = np.asarray(picture.resize((CROP, CROP), Image.Resampling.BILINEAR))[..., ::-1]
        assert np.array_equal(network, crop(pixels, box))
        if level != "context":  # which has a red box on it
            assert np.array_equal(decoded(sent[level]), encoded(sliced(pixels, box)))
            if name not in ("PNG 1", "PNG P"):  # which are dithered
                assert np.abs(decoded(sent[level]) - sliced(pixels, box)[..., ::-1]).mean() < 3


def test_crops_of_another_box_are_other_pixels():
    """By one pixel: the comparison above can fail."""
    pixels, sent = served(FILES["PNG RGB"]()), cut(photo(), PERSON, ImageOptions())
    moved = [(x1 + 1, y1, x2 + 1, y2) for x1, y1, x2, y2 in (BODY, HEAD)]
    for level, box in zip(("body", "head"), moved):
        assert not np.array_equal(decoded(sent[level]), encoded(sliced(pixels, box)))


def test_every_mode_sends_the_same_bytes_of_a_level():
    subject = Subject("x.jpg", make_person(1, list(BODY), list(HEAD), ()), cut(photo(), PERSON, ImageOptions()))
    questions = Questions(MODES, Prompt.load(None), ("peace",))
    seen = {}
    for mode in MODES:
        for image in questions.sent(subject, mode):
            (level,) = image.levels
            assert image.data == seen.setdefault(level, image.data)
    assert set(seen) == set(TOLD)
    assert len(set(seen.values())) == 3
    assert seen == {level: image.data for level, image in cut(photo(), PERSON, ImageOptions()).items()}


def test_a_seed_draws_the_random_control_anew():
    subject = Subject("x.jpg", make_person(1, list(BODY), list(HEAD), ()), cut(photo(), PERSON, ImageOptions()))
    drawn = set()
    for seed in range(20):
        questions = Questions(MODES, Prompt.load(None), ("peace",), seed=seed)
        drawn.add(tuple(image.levels for image in questions.sent(subject, "exclude_random")))
        assert len(questions.sent(subject, "enhanced")) == 2
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("box", "size", "strip"),
    [
        ((0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT), None),
        ((0, 0, 1, 1), (224, 224), None),
        ((WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT), (224, 224), None),
        ((WIDTH - 8, 0, WIDTH, 8), (224, 224), None),
        ((0, HEIGHT - 40, 30, HEIGHT), (168, 224), None),
        ((5, 5, 15, 205), (32, 640), None),
        ((5, 0, 6, HEIGHT), (MIN_SIDE, 1024), 3),
        ((0, 9, WIDTH, 10), (1024, MIN_SIDE), 2),
        ((0, HEIGHT - 2, WIDTH, HEIGHT), (1024, MIN_SIDE), 5),
    ],
)
def test_no_crop_is_too_small_or_too_narrow(box, size, strip):
    """The longer side has the network's 224 pixels, the shorter 32; strips lie amid grey. Colours stay."""
    sent = cut(photo(), {"body_box": box, "head_box": box}, ImageOptions())
    assert sent["body"].size == size
    assert sent["body"].data == sent["head"].data
    pixels, colours = decoded(sent["body"]), sliced(np.asarray(photo()), box)
    if strip is not None:
        pixels = pixels if size[0] > size[1] else pixels.transpose(1, 0, 2)
        first = (MIN_SIDE - strip) // 2
        for beside in (pixels[: first - 8], pixels[first + strip + 8 :]):
            assert beside.size
            assert np.abs(beside - GREY).max() <= 2
        pixels = pixels[first : first + strip]
    # At the edge of a strip, JPEG mixes its colours with the grey.
    assert np.abs(pixels.mean(axis=(0, 1)) - colours.mean(axis=(0, 1))).max() < (4 if strip is None else 12)


def test_a_small_head_keeps_its_shape():
    """Eight pixels, enlarged: reduced again by an average, they are what they were."""
    box = (100, 100, 108, 108)
    sent = decoded(cut(photo(), {**PERSON, "head_box": box}, ImageOptions())["head"])
    means = sent.reshape(8, 28, 8, 28, 3).mean(axis=(1, 3))
    assert np.abs(means - np.asarray(photo())[100:108, 100:108]).max() < 4


sides = st.integers(1, 30_000)


@settings(max_examples=300, deadline=None)
@given(width=sides, height=sides, longest_side=st.integers(MIN_SIDE, 4096))
def test_sizes_that_models_take(width, height, longest_side):
    """Whatever the box: not longer than allowed, not smaller than servers take, aspect kept but for whole pixels."""
    size = sent_size((width, height), longest_side)
    assert min(size) >= 1
    assert max(size) <= longest_side
    assert max(size) >= min(CROP_SIDE, longest_side)
    scale = max(size) / max(width, height)
    assert min(size) == max(1, round(min(width, height) * scale)) or abs(min(size) - min(width, height) * scale) <= 1
    if max(width, height) >= CROP_SIDE and min(width, height) >= MIN_SIDE:
        assert scale <= 1
    seen = padded(Image.new("RGB", size)).size
    assert min(seen) >= MIN_SIDE
    assert max(seen) <= longest_side
    assert max(seen) / min(seen) <= MAX_ASPECT
    assert seen == size or min(size) < max(MIN_SIDE, max(size) / MAX_ASPECT)


@pytest.mark.parametrize("box", [(0, 0, 1600, 1200), (3, 5, 1500, 1100), (17, 300, 1590, 310), (1, 1, 9, 9)])
@pytest.mark.parametrize("longest_side", [100, 250, 1024])
def test_a_part_is_resized_as_pillow_resizes_a_crop(box, longest_side):
    """Bit for bit; what lies outside of the box has no share in it."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    size = sent_size((box[2] - box[0], box[3] - box[1]), longest_side)
    part = resampled(image, box, size)
    expected = image.crop(box).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    assert np.array_equal(np.asarray(part), np.asarray(expected))
    around = np.full_like(pixels, 255)
    around[box[1] : box[3], box[0] : box[2]] = sliced(pixels, box)
    assert np.array_equal(np.asarray(resampled(Image.fromarray(around), box, size)), np.asarray(part))
    assert np.array_equal(np.asarray(image), pixels)


def test_the_longest_side_is_kept_to():
    image = photo().resize((2400, 1800))
    person = {"body_box": (100, 0, 1300, 1800), "head_box": (200, 0, 800, 500)}
    for longest_side in (MIN_SIDE, 300, 1024, 1800):
        sizes = {level: one.size for level, one in cut(image, person, ImageOptions(longest_side)).items()}
        assert sizes["context"] == (longest_side, round(longest_side * 0.75)) or longest_side == MIN_SIDE
        assert sizes["body"][1] == longest_side
        assert max(sizes["head"]) == min(600, longest_side)


def test_the_whole_image_is_reduced_once_for_all_persons():
    cutter = Cutter(photo().resize((3000, 2500)), ImageOptions())
    whole = cutter.whole
    before = np.asarray(whole).copy()
    persons = [{"body_box": (x, 10, x + 300, 2000), "head_box": (x, 10, x + 90, 200)} for x in range(0, 2700, 300)]
    sent = [cutter.crops(person)["context"].data for person in persons]
    assert cutter.whole is whole
    assert np.array_equal(np.asarray(whole), before)
    assert len(set(sent)) == len(persons)


@pytest.mark.parametrize(
    ("body", "head", "named"),
    [
        ((0, 0, WIDTH + 1, HEIGHT), HEAD, "body"),
        ((-1, 0, 10, 10), HEAD, "body"),
        (BODY, (10, 10, 10, 20), "head"),
        (BODY, (10, 20, 30, 20), "head"),
        (BODY, (10, 10, 20, HEIGHT + 5), "head"),
    ],
)
def test_a_box_of_another_image_is_refused(body, head, named):
    """Pillow would fill what is missing with black."""
    with pytest.raises(InvalidInput, match=rf"the {named} box \[.*\] is not inside the image of 420 x 360 pixels"):
        cut(photo(), {"body_box": body, "head_box": head}, ImageOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"longest_side": 31}, "the longest side must be 32 pixels or more, not 31"),
        ({"quality": 0}, "the quality of JPEG is 1 to 100, not 0"),
        ({"quality": 101}, "the quality of JPEG is 1 to 100, not 101"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InvalidInput, match=message):
        ImageOptions(**options)


def test_quality_counts():
    sizes = [len(cut(photo(), PERSON, ImageOptions(quality=quality))["body"].data) for quality in (50, 75, 90, 100)]
    assert sizes == sorted(set(sizes))


def odd_profile():
    """Of sRGB with red and blue exchanged: who heeds it sees other colours."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_nothing_but_pixels_is_sent(form):
    """Neither place and author nor a comment nor the profile, which would be heeded here and there; no pixel of it."""
    exif = Image.Exif()
    exif[0x8298] = "somebody's copyright"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0)})
    comment = {"comment": b"somebody's secret"} if form == "JPEG" else {}
    data = hostile.save(photo(), form, exif=exif, icc_profile=odd_profile(), **comment)
    plain = hostile.save(photo(), form)
    with Image.open(io.BytesIO(data)) as given:
        assert "icc_profile" in given.info
        as_opened = given.convert("RGB")
    for image in (open_as_served(data), as_opened):
        sent = cut(image, PERSON, ImageOptions(collage=True))
        assert {level: one.data for level, one in sent.items()} == {
            level: one.data for level, one in cut(open_as_served(plain), PERSON, ImageOptions()).items()
        }
        for one in itertools.chain(sent.values(), sent.collages.values()):
            assert not any(word in one.data for word in (b"somebody", b"Exif", b"ICC_PROFILE", b"http://"))
            with Image.open(io.BytesIO(one.data)) as picture:
                assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
