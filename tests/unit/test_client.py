"""The client without a server: pictures, text, files."""

import json

import numpy as np
import pytest
from PIL import Image

from client import infer
from client.draw import SMALLEST_SIDE, annotate, open_upright
from client.report import format_result, shown_warnings, warnings_of
from cocoer.labels import EMOTIC_LABELS


def make_person(number, body, head, labels):
    scores = {
        name: [0.9 if label in labels else 0.1 for label in EMOTIC_LABELS]
        for name in ("pred", "VI", "head", "body", "ctx")
    }
    chosen = {name: list(labels) for name in scores}
    order = ["body-level", "head-level", "context-level"]
    return {"id": number, "body_box": body, "head_box": head, **chosen, "emo_process": order, "scores": scores}


def make_result(size, persons, synthetic=False, detector="scrfd"):
    return {
        "image": {"width": size[0], "height": size[1]},
        "persons": persons,
        "labels": list(EMOTIC_LABELS),
        "model": {"synthetic": synthetic, "detector": detector},
    }


def changed_rows(before: Image.Image, after: Image.Image) -> np.ndarray:
    return np.argwhere((np.asarray(before) != np.asarray(after)).any(axis=2))


@pytest.mark.parametrize("size", [(24, 16), (100, 2000), (300, 300), (640, 480), (3840, 2160)])
@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_any_size_and_crowd(size, count):
    """The picture keeps its shape, is legible, and is drawn on for every person, at every edge."""
    width, height = size
    rng = np.random.default_rng(count)
    persons = []
    for index in range(count):
        x, y = int(rng.integers(0, max(1, width - 10))), int(rng.integers(0, max(1, height - 10)))
        body = [x, y, min(width, x + width // 3 + 2), height]
        head = [x, y, min(width, x + width // 8 + 2), min(height, y + height // 8 + 2)]
        persons.append(make_person(index + 1, body, head, EMOTIC_LABELS[index : index + 9]))
    image = Image.new("RGB", size, (40, 90, 160))
    drawn = annotate(image, make_result(size, persons), [])
    factor = drawn.width // width
    assert drawn.size == (width * factor, height * factor)
    assert min(drawn.size) >= SMALLEST_SIDE or max(drawn.size) > 2048
    plain = image.resize(drawn.size, Image.Resampling.LANCZOS)
    assert bool(len(changed_rows(plain, drawn))) == bool(count)


def test_panel_does_not_cover_the_face():
    head = [200, 150, 300, 280]
    image = Image.new("RGB", (640, 480), (40, 90, 160))
    drawn = annotate(
        image, make_result(image.size, [make_person(1, [100, 100, 400, 480], head, EMOTIC_LABELS[:5])]), []
    )
    inside = [value + change for value, change in zip(head, (4, 4, -4, -4))]
    assert np.array_equal(np.asarray(drawn.crop(inside)), np.asarray(image.crop(inside)))


def test_banner_is_above_the_picture():
    image = Image.new("RGB", (640, 480), "gray")
    drawn = annotate(image, make_result(image.size, []), ["SYNTHETIC WEIGHTS"])
    assert drawn.height > 480
    assert np.array_equal(np.asarray(drawn)[-480:], np.asarray(image))


def test_warnings():
    assert warnings_of(make_result((1, 1), [])) == []
    assert "SYNTHETIC WEIGHTS" in warnings_of(make_result((1, 1), [], synthetic=True))[0]
    assert "FALLBACK DETECTOR" in warnings_of(make_result((1, 1), [], detector="opencv-haar"))[0]
    assert "SYNTHETIC DETECTORS" in warnings_of(make_result((1, 1), [], detector="scrfd (synthetic)"))[0]
    assert shown_warnings(make_result((1, 1), [], detector="opencv-haar"), boxes_given=True) == []


def test_text():
    labels = ("doubt / confusion", "happiness", "peace", "pleasure", "engagement", "excitement")
    text = format_result("a.png", make_result((640, 480), [make_person(1, [1, 2, 3, 4], [1, 2, 3, 4], labels)]))
    assert text.startswith("a.png  640x480  1 person\n")
    assert "excluded body-level > head-level > context-level" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert all(f"{label} 0.90" in text for label in labels)
    assert "no persons" in format_result("a.png", make_result((640, 480), []))


def test_names_do_not_collide(tmp_path):
    """Two pictures of one name, written to where one of them lies: both get a name, neither is overwritten."""
    inputs = [tmp_path / folder / "x.png" for folder in "ab"]
    for path in inputs:
        path.parent.mkdir()
        Image.new("RGB", (50, 50)).save(path)
    before = [path.read_bytes() for path in inputs]
    taken = {path.resolve() for path in inputs}
    targets = [infer.write_picture(path, make_result((50, 50), []), [], tmp_path / "a", taken) for path in inputs]
    assert [target.name for target in targets] == ["x-2.png", "x-3.png"]
    assert [path.read_bytes() for path in inputs] == before


def test_orientation_is_the_servers(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert open_upright(tmp_path / "x.jpg").size == (20, 30)


def test_boxes_file(tmp_path):
    boxes = [{"body": [1, 2, 3, 4.5], "head": [1, 2, 3, 4]}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    assert infer.read_persons(tmp_path / "boxes.json") == boxes


@pytest.mark.parametrize("arguments", [["a.png", "b.png", "--persons", "x.json"], ["a.png", "--timeout", "0"], []])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        infer.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
