"""``benchmarks/vlm.py`` through a real server, on a small data set in EMOTIC's format, with a model that is made up."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.emotic import read_emotic
from benchmarks.predictions import ask_about, guess_head
from cocoer_client.drawing.images import open_as_served
from cocoer_client.vlm.crops import Cutter, ImageOptions
from cocoer_client.vlm.modes import MODES, excluded_level, levels_of
from tests.conftest import SAMPLE, run_python
from tests.vlm_server import VlmServer, labels, refuses

BODY, HEAD, OUTSIDE = [84, 20, 363, 512], [177, 67, 270, 160], [600, 600, 700, 700]
FACELESS = (0, 300, 80, 500)
TRUTH = ["Peace", "Doubt/Confusion"]


@pytest.fixture(scope="module")
def emotic(tmp_path_factory):
    """Four images of the sample's person: one turned by EXIF, one with others beside, who can't all be recognised."""
    root = tmp_path_factory.mktemp("emotic")
    (root / "mscoco").mkdir()
    with Image.open(SAMPLE) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    rows = ["Folder,Filename,BBox,Head_BBox,Categorical_Labels"]
    for number, brightness in enumerate((0.6, 0.8, 1.0, 1.2)):
        picture = Image.fromarray(np.clip(pixels * brightness, 0, 255).astype(np.uint8))
        if number == 3:  # stored lying on its side
            exif = Image.Exif()
            exif[0x0112] = 6
            picture.transpose(Image.Transpose.ROTATE_90).save(root / "mscoco" / "3.jpg", exif=exif, quality=95)
        else:
            picture.save(root / "mscoco" / f"{number}.png")
        name = f"{number}.{'jpg' if number == 3 else 'png'}"
        boxes = [(BODY, HEAD)] if number else [(OUTSIDE, HEAD), (BODY, HEAD), (list(FACELESS), "")]
        rows += [f'mscoco,{name},"{body}","{head}","{TRUTH}"' for body, head in boxes]
    (root / "test.csv").write_text("\n".join(rows) + "\n")
    return root


def test_from_the_annotations_to_the_report(client, server, emotic, tmp_path):
    """Each mode sends the levels that the served CocoER's order says, cut by RESULT's boxes."""
    expected = {}  # what is sent of a level -> whose it is
    people = {}
    examples = read_emotic(emotic / "test.csv", emotic, "test").examples
    for example in examples:
        found = ask_about(client, example, guess_heads=True, array_order="rgb").persons
        cutter = Cutter(open_as_served(example.image.read_bytes()), ImageOptions())
        for number, one in enumerate(found, 1):
            if one is not None:
                crops = cutter.crops(one.model_dump(mode="json"))
                people[example.image.name, number] = one.model_dump(mode="json")
                expected |= {crop.data: (example.image.name, number, level) for level, crop in crops.items()}
    assert list(people) == [("0.png", 2), ("0.png", 3), ("1.png", 1), ("2.png", 1), ("3.jpg", 1)]

    def script(request):
        sent = [expected[image.data] for image in request.images]
        (person,) = {(name, number) for name, number, _ in sent}
        levels = tuple(level for _, _, level in sent)
        if levels == levels_of("enhanced", people[person]["emo_process"], "", 0):
            return labels("peace", "Doubt/Confusion")
        return refuses() if len(levels) == 3 else labels("peace", "anger")

    with VlmServer(script) as model:
        options = ["--annotations", emotic / "test.csv", "--images", emotic, "--url", server.url, "--model", "m"]
        options += ["--base-url", model.base_url, "--output-dir", tmp_path / "out", "--cache", tmp_path / "cache"]
        options += ["--bootstrap", "200"]
        dry = run_python("-m", "benchmarks.vlm", *options, "--dry-run")
        assert (dry.returncode, model.requests) == (0, []), dry.stderr
        run = run_python("-m", "benchmarks.vlm", *options)
        assert run.returncode == 0, run.stderr
        assert f"5 persons: {len(model.requests)} requests" in dry.stderr

    report = json.loads((tmp_path / "out" / "vlm.json").read_text())
    assert (report["persons"]["annotated"], report["persons"]["compared"]) == (6, 5)
    assert report["persons"]["guessed_heads"] == 1
    assert "0.png, person 1: " in report["persons"]["refused_boxes"][0]
    assert [(one["image"], one["person"]) for one in report["outcomes"]] == [
        (f"mscoco/{name}", number) for name, number in people
    ]
    asked = {
        (expected[one.images[0].data][:2], tuple(expected[x.data][2] for x in one.images)) for one in model.requests
    }
    wanted = set()
    for person, one in zip(people.items(), report["outcomes"]):
        name, result = person
        assert one["emo_process"] == result["emo_process"]
        assert one["CocoER"] == result["pred"]
        for mode in MODES:
            excluded = one["answers"][mode]["excluded"]
            if mode != "exclude_random":
                assert excluded == excluded_level(mode, result["emo_process"], "", 0)
            sent = ("context",) if mode == "single" else tuple(x for x in ("context", "body", "head") if x != excluded)
            wanted.add((name, sent))
        assert one["answers"]["enhanced"]["labels"] == ["doubt / confusion", "peace"]
        assert one["answers"]["multi"]["kind"] == "refused"
    assert asked == wanted
    assert len(model.requests) == len(wanted)
    ways = report["figures"]["ways"]
    assert ways["enhanced"]["micro F1"]["value"] == 1
    assert ways["multi"]["micro recall"]["value"] == 0
    assert ways["single"]["micro F1"]["value"] == pytest.approx(0.5)
    assert report["figures_of_answered"] is None  # multi refused everybody
    assert "**The served CocoER has synthetic weights" in run.stdout
    assert "4 images are few" in run.stdout
    with Image.open(tmp_path / "out" / "vlm.png") as plot:
        assert plot.width > 1000
    faceless = people["0.png", 3]
    assert faceless["head_box"] == [int(value) for value in guess_head(FACELESS, (512, 512))]
