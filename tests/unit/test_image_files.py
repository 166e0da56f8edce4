"""Files of annotated images: their format, their size, and what of the original they hold."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cocoer_client import InvalidInput
from cocoer_client.drawing.formats import FULL_COLOUR, save, suffix_of
from cocoer_client.drawing.images import draw
from cocoer_client.infer.arguments import options_of, parse_args
from cocoer_client.pipeline import RunOptions
from cocoer_client.pipeline.names import Names
from cocoer_client.pipeline.options import OF_IMAGES
from cocoer_client.sources import find_sources
from tests import hostile
from tests.conftest import SAMPLE
from tests.results import make_person, make_result

ORIENTATION, GPS, COPYRIGHT = 0x0112, 0x8825, 0x8298
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RESULT = make_result((600, 500), [make_person(1, [50, 50, 300, 480], [100, 60, 200, 180], ("peace",))])


def photo(form, **options):
    """500 x 600 pixels, to be turned a quarter, with a place, an author and a comment."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[COPYRIGHT] = 6, "somebody"
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 8.0, 14.0)})
    stream = io.BytesIO()
    Image.effect_noise((500, 600), 40).convert("RGB").save(stream, form, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("form", FORMATS.values())
def test_upright_with_its_profile_and_nothing_private(form, suffix, tmp_path):
    """Place and author are in none of the bytes; a viewer that heeds EXIF does not turn it a second time."""
    given = photo(form, icc_profile=PROFILE, **({"comment": b"somebody's secret"} if form == "JPEG" else {}))
    assert b"somebody" in given
    save(draw(given, RESULT, "panel", boxes_given=False), tmp_path / f"x{suffix}")
    written = (tmp_path / f"x{suffix}").read_bytes()
    assert b"somebody" not in written
    with Image.open(io.BytesIO(written)) as image:
        assert (image.format, image.size) == (FORMATS[suffix], (600, 500))
        assert dict(image.getexif()) == {}
        assert image.info["icc_profile"] == PROFILE
        assert not {"comment", "xmp", "exif"} & image.info.keys()


def test_a_profile_for_other_colours_is_not_kept(tmp_path):
    """Of CMYK or grey, say: it would be wrong for RGB."""
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    save(draw(photo("JPEG", icc_profile=grey), RESULT, "release", boxes_given=False), tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        assert "icc_profile" not in image.info


def test_what_is_written_looks_like_what_was_drawn(tmp_path):
    image = Image.open(SAMPLE).convert("RGB")
    for suffix, most in ((".png", 0), (".jpg", 4), (".webp", 6)):
        save(image, tmp_path / f"x{suffix}")
        with Image.open(tmp_path / f"x{suffix}") as written:
            difference = np.abs(np.asarray(written.convert("RGB"), dtype=int) - np.asarray(image, dtype=int))
        assert difference.mean() <= most


def test_thin_lines_keep_their_colour_in_a_jpeg(tmp_path):
    """A yellow line two pixels wide, across odd columns; half the colours (4:2:0) would make it a third paler."""
    image = Image.new("RGB", (200, 200), "black")
    image.paste("#F0E442", (101, 0, 103, 200))
    save(image, tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as written:
        blue = np.asarray(written)[:, 101:103, 2]
        assert abs(blue.mean() - 0x42) < 12
        assert written.layer[0][1:3] == (1, 1)
    save(Image.new("RGB", (FULL_COLOUR, FULL_COLOUR)), tmp_path / "y.jpg")
    with Image.open(tmp_path / "y.jpg") as written:
        assert written.layer[0][1:3] == (2, 2)


def test_quality_counts(tmp_path):
    image = Image.open(SAMPLE).convert("RGB")
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (50, 95):
            save(image, tmp_path / f"x{suffix}", quality)
            sizes.append((tmp_path / f"x{suffix}").stat().st_size)
        assert sizes[0] < sizes[1] / 2


def test_too_large_for_its_format(tmp_path):
    with pytest.raises(InvalidInput, match=r"16400 x 10 pixels, \.webp files have up to 16383 a side; choose --format"):
        save(Image.new("RGB", (16_400, 10)), tmp_path / "x.webp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "image_format", "suffix"),
    [
        ("a.jpg", "auto", ".jpg"),
        ("a.jfif", "auto", ".jpg"),
        ("a.webp", "auto", ".webp"),
        ("a.bmp", "auto", ".png"),
        ("https://example.org/a.jpeg?size=9", "auto", ".jpg"),
        ("a.png", "jpeg", ".jpg"),
    ],
)
def test_formats(name, image_format, suffix):
    assert suffix_of(name, image_format) == suffix


def test_another_format_than_before_gets_another_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(hostile.save(hostile.image(), "JPEG"))
    (source,) = find_sources([str(tmp_path / "a.jpg")], False, tmp_path / "out")
    given = {source.name: str(tmp_path / "out" / "a-7.png")}
    assert Names(tmp_path / "out", [], given, "png").of(source).name == "a-7.png"
    assert Names(tmp_path / "out", [], given, "auto").of(source).name == "a.jpg"


def test_options(capsys):
    options = options_of(parse_args(["x.png", "--format", "webp", "--quality", "70", "--boxes", "heads"]))
    assert (options.image_format, options.quality, options.drawn_boxes) == ("webp", 70, "heads")
    with pytest.raises(SystemExit):
        parse_args(["x.png", "--quality", "0"])
    assert "must be from 1 to 100, got 0" in capsys.readouterr().err
    wrong: list[dict[str, Any]] = [{"quality": 101}, {"image_format": "gif"}, {"drawn_boxes": "bodies"}]
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            RunOptions(**given)


@pytest.mark.parametrize("changed", [{"image_format": "png"}, {"quality": 70}, {"drawn_boxes": "none"}], ids=str)
@pytest.mark.parametrize("of_video", [False, True])
def test_what_is_drawn_is_part_of_what_was_asked(changed: dict[str, Any], of_video):
    """Images in another format or with other boxes don't count as done; without images it makes no difference."""
    plain, other = RunOptions(), RunOptions(**changed)
    assert other.asked(of_video, drawn=True) != plain.asked(of_video, drawn=True)
    assert other.asked(of_video, drawn=False) == plain.asked(of_video, drawn=False)
    assert changed.keys() <= set(OF_IMAGES)
