"""Results for other libraries: pandas, supervision, whatever reads COCO's annotation files."""

import io
import json
import sys

import numpy as np
import pandas
import pytest
import supervision

from cocoer.labels import EMOTIC_LABELS
from cocoer_client import InvalidInput, Result
from cocoer_client.coco import coco_of
from cocoer_client.sinks import CocoFile, CsvFile
from tests.results import make_person, make_result

TWO = [
    make_person(1, [0, 0, 60, 80], [10, 10, 30, 30], ("happiness", "peace")),
    make_person(3, [5, 6, 70, 90], [20, 20, 40, 45], ()),
]


@pytest.fixture
def result():
    return Result.from_raw(make_result((640, 480), TWO, synthetic=True))


@pytest.fixture
def nobody():
    return Result.from_raw(make_result((640, 480), []))


class TestPandas:
    def test_a_row_for_each_person_with_the_columns_of_csv(self, result, tmp_path):
        table = result.to_pandas("a.jpg")
        with CsvFile(tmp_path / "x.csv") as file:
            file.add({**result.raw, "file": "a.jpg"})
        same = pandas.read_csv(tmp_path / "x.csv").drop(columns=["frame", "error"])
        assert list(table.columns) == list(same.columns)
        assert list(table["person"]) == list(same["person"]) == [1, 3]
        assert list(table["pred"]) == ["happiness;peace", ""]
        assert table["p(happiness)"].tolist() == same["p(happiness)"].tolist() == [0.95, 0.1]
        assert table.loc[1, ["body_x1", "body_y1", "body_x2", "body_y2"]].tolist() == [5, 6, 70, 90]
        assert "SYNTHETIC" in table["warnings"][0]
        assert result.to_pandas("=1.jpg")["file"][0] == "=1.jpg", "as it is, which a spreadsheet would compute"
        assert table["head_x1"].dtype == np.int64

    def test_nobody_is_no_row(self, nobody, result):
        table = nobody.to_pandas()
        assert len(table) == 0
        assert list(pandas.concat([table, result.to_pandas()]).columns) == list(result.to_pandas().columns)


class TestSupervision:
    def test_boxes_and_what_belongs_to_them(self, result):
        detections = result.to_supervision()
        assert detections.xyxy.tolist() == [[0, 0, 60, 80], [5, 6, 70, 90]]
        assert detections.class_id is None
        assert detections.metadata["labels"] == list(EMOTIC_LABELS)
        second = detections[1:]  # as its filters, zones and trackers do
        assert second.data["person"].tolist() == [3]
        assert second.data["labels"] == [[]]
        assert second.data["scores"].shape == (1, 26)
        assert second.data["head_xyxy"].tolist() == [[20, 20, 40, 45]]
        assert len(supervision.Detections.merge([detections, second])) == 3

    def test_nobody(self, nobody):
        detections = nobody.to_supervision()
        assert len(detections) == 0
        assert detections.data["scores"].shape == (0, 26)
        supervision.BoxAnnotator(color_lookup=supervision.ColorLookup.INDEX).annotate(
            np.zeros((9, 9, 3), np.uint8), detections
        )

    def test_its_annotators_take_them(self, result):
        scene = np.zeros((100, 100, 3), np.uint8)
        annotator = supervision.BoxAnnotator(color_lookup=supervision.ColorLookup.INDEX)
        assert annotator.annotate(scene, result.to_supervision()).any()


@pytest.mark.parametrize(("name", "method"), [("pandas", "to_pandas"), ("supervision", "to_supervision")])
def test_what_is_not_installed_is_told(name, method, result, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidInput, match=rf"{method} needs {name}: pip install 'cocoer-client\[{name}\]'"):
        getattr(result, method)()


def records():
    return [
        {"file": "b.jpg", **make_result((640, 480), TWO)},
        {"file": "broken.jpg", "error": {"kind": "InvalidRequest", "message": "IMAGE is empty"}},
        {"file": "film.mp4", "frame": 30, "time_s": 1.0, "last": False, **make_result((100, 50), [])},
        {"file": "film.mp4", "frame": 60, "time_s": 2.0, "last": True, **make_result((100, 50), TWO[:1])},
    ]


class TestCoco:
    def test_what_the_format_asks_for(self):
        """As pycocotools reads it: ids that are unique and belong to each other, boxes of x, y, width, height."""
        coco = json.loads(json.dumps(coco_of(records())))
        images = {image["id"]: image for image in coco["images"]}
        assert [image["file_name"] for image in images.values()] == ["b.jpg", "film.mp4", "film.mp4"]
        assert len(images) == 3
        assert coco["categories"] == [{"id": 1, "name": "person", "supercategory": "person"}]
        assert len({one["id"] for one in coco["annotations"]}) == len(coco["annotations"]) == 3
        for one in coco["annotations"]:
            assert one["image_id"] in images
            assert one["category_id"] == 1
            assert one["iscrowd"] == 0
            x, y, width, height = one["bbox"]
            assert min(x, y) >= 0
            assert one["area"] == width * height > 0
        second = coco["annotations"][1]
        assert second["bbox"] == [5, 6, 65, 84]
        assert second["attributes"]["head_bbox"] == [20, 20, 20, 25]
        assert coco["annotations"][2]["image_id"] == 3
        assert (images[3]["frame"], images[3]["time_s"]) == (60, 2.0)
        assert (images[1]["width"], images[1]["height"]) == (640, 480)

    def test_what_cocoer_says_is_in_the_attributes(self):
        attributes = coco_of(records())["annotations"][0]["attributes"]
        assert attributes["labels"] == ["happiness", "peace"]
        assert list(attributes["scores"]) == list(EMOTIC_LABELS)
        assert attributes["scores"]["happiness"] == pytest.approx(0.95)
        assert (attributes["person"], attributes["exclusion_order"][0]) == (1, "body-level")

    @pytest.mark.parametrize("of", [records, list, lambda: records()[2:3]])
    def test_the_file_is_the_same(self, of, tmp_path):
        with CocoFile(tmp_path / "new" / "coco.json") as file:
            for record in of():
                file.add(record)
        assert json.loads((tmp_path / "new" / "coco.json").read_text()) == coco_of(of())

    def test_standard_output(self, monkeypatch):
        monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
        with CocoFile("-") as file:
            file.add(records()[0])
        assert len(json.loads(stream.getvalue())["annotations"]) == 2

    def test_warnings_stay_with_the_image(self):
        (image,) = coco_of([{"file": "a", **make_result((9, 9), [], synthetic=True)}])["images"]
        assert "SYNTHETIC" in image["warnings"][0]
