"""Every code block of the README and of docs/, run in a copy of the project as a newcomer would, page by page.

What a page shows as a block's output is compared with what the block prints; a block that shows none has a check.
"""

import contextlib
import json
import operator
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cocoer.labels import EMOTIC_LABELS
from cocoer_client import InvalidRequest
from cocoer_client.drawing.release_style import GREEN
from serving.server import TritonServer
from tests import vlm_server
from tests.conftest import PROJECT, SAMPLE
from tests.gateway import Gateway, gateway
from tests.pages import GUIDES, RUN, SCHEMA, Block, blocks, difference
from tests.unit.test_accuracy import image, person
from tests.vlm_server import VlmServer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.needs("checkout")

SERVE = "tritonserver --model-repository model_repository"
GATEWAY, ITS_PORT = "cocoer-web", "127.0.0.1:8080"
MODEL = "http://localhost:11434/v1"
"""Where pages have a vision-language model."""
ELSEWHERE = "docs/operations.md"
"""Its blocks, of certificates and a server with TLS, are run by test_security.py."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory, tiny_checkpoints, repositories):
    """The project's files, this environment as ``.venv``, weights in ``checkpoints/``, their models, a user's data.

    As after ``make demo`` in a fresh clone there are no detectors, so that OpenCV finds the person the pages show.
    """
    target = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(lambda name: (PROJECT / name).is_file(), listed.stdout.splitlines()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    ignore = shutil.ignore_patterns("insightface")
    shutil.copytree(tiny_checkpoints, target / "checkpoints", copy_function=os.link, dirs_exist_ok=True, ignore=ignore)
    shutil.copytree(repositories("opencv"), target / "model_repository", copy_function=os.link)
    for order in ("bgr", "rgb"):  # what a user has who has compared them before: built again where it differs
        built = target / ".cache" / "accuracy" / f"{order}-fp32"
        shutil.copytree(repositories("opencv"), built, copy_function=os.link)
    (target / ".venv").symlink_to(sys.prefix)
    for stamp in (".setup", ".setup-batch", ".setup-openvino", ".setup-dev"):
        (PROJECT / ".venv" / stamp).touch()
    write_data(target)
    return target


def write_data(target):
    """What the pages call the user's own: ``pictures``, ``emotic``, ``faces``."""
    with Image.open(SAMPLE) as opened:
        whole = opened.convert("RGB")
    folders = ("pictures/holiday", "emotic/mscoco", "faces/Happy", "faces/Anger", "faces/Neutral")
    for index, folder in enumerate(folders):
        (target / folder).mkdir(parents=True)
        for size in (300, 400):
            whole.resize((size + index, size)).save(target / folder / f"{size}.jpg")
    shutil.copy(target / "pictures/holiday/300.jpg", target / "pictures")
    persons = [person([20, 5, 290, 300], [], combined=["Peace"]), person([0, 0, 9, 9], [], combined=["Fear"])]
    entries = [image("300.jpg", persons), image("400.jpg", persons[:1])]
    for entry in entries:
        entry["folder"] = "mscoco"
    savemat(target / "emotic" / "Annotations.mat", {"test": np.array(entries, dtype=object)})


class Reader:
    """Types what a page says, in ``copy``; asks the page's own server once it has started one, else ``server``."""

    def __init__(self, copy, server, log, stack):
        self.copy, self.server, self.log, self.stack = copy, server, log, stack
        self.web: Gateway | None = None
        self.model: VlmServer | None = None

    def follow(self, block):
        """Run a block; what it printed on standard output, without what make says of its own."""
        return getattr(self, block.language)(block.text)

    def start_gateway(self):
        self.web = self.stack.enter_context(gateway(self.server.url, self.log.with_name("web.log")))

    def at_its_gateway(self, commands):
        """What asks ``make web``'s asks one of the page's own, which is started when it is first needed."""
        if ITS_PORT in commands and self.web is None:
            self.start_gateway()
        return commands.replace(ITS_PORT, f"127.0.0.1:{self.web.port}") if self.web else commands

    def at_its_model(self, commands):
        """What asks the reader's vision-language model asks one that is made up."""
        if MODEL in commands and self.model is None:
            self.model = self.stack.enter_context(VlmServer(lambda request: vlm_server.labels("peace", "yearning")))
        return commands.replace(MODEL, self.model.base_url) if self.model else commands

    def bash(self, text):
        printed = ""
        for commands in re.split(r"^(?=tritonserver |make |cocoer-web\n)", text, flags=re.MULTILINE):
            first, _, rest = commands.partition("\n")
            if first == GATEWAY:
                self.start_gateway()
                assert rest.strip() == "", "it serves until it is stopped"
            elif first == SERVE:
                assert rest.strip() == "", "it serves until it is stopped"
                self.server = self.stack.enter_context(TritonServer(self.copy / "model_repository", self.log))
            elif first == "make test":
                assert "pytest" in self.run(["make", "--dry-run", "test"])
            elif first.startswith("make setup"):
                self.run(["make", *first.split()[1:]])
                printed += self.run(["bash", "-ec", rest]) if rest.strip() else ""
            elif commands.strip():
                printed += self.run(["bash", "-ec", self.at_its_model(self.at_its_gateway(commands))])
        return printed

    def python(self, text):
        return self.run(
            [sys.executable, "-c", text.replace("localhost:8000", f"{self.server.host}:{self.server.http_port}")]
        )

    def run(self, command):
        # A make that was started by a make talks about it.
        inherited = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS", name)}
        own = {
            "COCOER_URL": self.server.url,
            "XDG_CACHE_HOME": str(self.copy / ".cache"),
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        }
        done = subprocess.run(
            command, cwd=self.copy, env={**inherited, **own}, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


Check = Callable[[Path, str], None]
"""Takes the copy of the project and what the block printed; raises AssertionError if the page's claim does not hold."""
CHECKS: dict[str, Check] = {}
"""Name of a block that shows no output -> what holds once it has run."""


def claims(page, first_line):
    """Register a check of a page's block."""

    def register(check):
        CHECKS[Block(page, "bash", first_line).name] = check
        return check

    return register


@claims("README.md", "make demo")
def the_demo_says_what_it_did(copy, printed):
    assert printed.endswith("Server stopped. To try images of your own on a page: make web\n")
    assert "SYNTHETIC" in printed
    assert "image: outputs/astronaut.png" in printed
    with Image.open(copy / "outputs" / "astronaut.png") as annotated, Image.open(SAMPLE) as before:
        assert annotated.width == before.width
        assert annotated.height > before.height  # the banner
    report = json.loads((copy / "model_repository" / "build_report.json").read_text())
    assert [name for name in map(operator.itemgetter("name"), report["engines"]) if name not in printed] == []


@claims("README.md", "make setup")
@claims("README.md", "python export/build_engines.py")
@claims("docs/weights.md", "python export/build_engines.py --verbose")
def a_build_is_checked_and_reported(copy, printed):
    """A row of the table for each model, each within its tolerance; the report has the same."""
    report = json.loads((copy / "model_repository" / "build_report.json").read_text())
    rows = re.findall(r"^(\w+) +(built|kept) .* pass$", printed, re.MULTILINE)
    assert rows == [(row["name"], row["status"]) for row in report["engines"]]
    assert report["synthetic"] is True
    assert all(row["parity"]["max_error"] <= row["parity"]["tolerance"] for row in report["engines"])
    build = json.loads((copy / "model_repository" / "cocoer" / "1" / "build.json").read_text())
    assert build["weights"] == report["weights"]
    assert "sha256:" in build["weights"]


@claims("README.md", "cocoer-infer pictures/ --csv images.csv")
def a_folder_is_annotated_and_resumed(copy, printed):
    lines = [line.split("  ")[0] for line in printed.splitlines() if line.startswith("pictures/")]
    names = ["pictures/300.jpg", "pictures/holiday/300.jpg", "pictures/holiday/400.jpg"]
    assert lines == names, "once each: the second command has nothing to do"
    for name in ("300.jpg", "astronaut.png", "holiday/300.jpg", "holiday/400.jpg"):
        with Image.open(copy / "outputs" / name) as annotated:
            assert annotated.format == {"jpg": "JPEG", "png": "PNG"}[name.rpartition(".")[2]]
    records = [json.loads(line) for line in (copy / "outputs" / "results.jsonl").read_text().splitlines()]
    assert [record["file"] for record in records] == names
    header, *rows = (copy / "images.csv").read_text().splitlines()
    assert len(rows) == sum(len(record["persons"]) for record in records)
    assert all(label in header for label in EMOTIC_LABELS)
    explained = (copy / "why.html").read_text()
    assert "SYNTHETIC" in explained
    assert explained.count("data:image/") >= 4, "the image and the three crops are in the page"


@claims("README.md", "curl -F image=@examples/astronaut.png http://127.0.0.1:8080/v1/recognise")
def the_gateway_answers_with_result(copy, printed):
    """From one that has been started with no option but where its server is, as ``make web`` does."""
    result = json.loads(printed)
    jsonschema.validate(result, SCHEMA)
    assert [person["body_box"] for person in result["persons"]] == [[84, 20, 363, 512]]


@claims("README.md", "python benchmarks/accuracy.py --annotations emotic/Annotations.mat --images emotic")
@claims("docs/weights.md", "python benchmarks/accuracy.py --dataset emotic --annotations emotic/Annotations.mat")
def accuracy_is_measured(copy, printed):
    """Three persons are annotated; where no face is found, a head is guessed, so that all are compared."""
    assert re.search(r"\bmAP\b", printed)
    report = json.loads((copy / "accuracy" / "accuracy.json").read_text())
    assert report["persons"] == {"annotated": 3, "compared": 3}
    assert report["settings"]["missing_head"] == "guess"
    (variant,) = report["variants"]
    assert 0 <= variant["mAP"]["value"] <= 1
    assert (copy / "accuracy" / "accuracy.md").read_text().strip() in printed
    assert (copy / "accuracy" / "accuracy.png").is_file()


@claims("docs/weights.md", "python benchmarks/accuracy.py --annotations emotic/Annotations.mat --images emotic --ch")
def channel_orders_side_by_side(copy, printed):
    """bgr and rgb, built and served one after the other."""
    report = json.loads((copy / "channels" / "accuracy.json").read_text())
    assert [variant["name"] for variant in report["variants"]] == ["bgr", "rgb"]
    first, second = report["variants"]
    assert second["gain"]["value"] == pytest.approx(second["mAP"]["value"] - first["mAP"]["value"])
    assert (copy / "channels" / "accuracy.png").exists()


@claims("docs/weights.md", "python benchmarks/accuracy.py --dataset caer-s --images faces --map Happy=happiness")
def folders_of_classes_are_measured(copy, printed):
    """Two images in each of three folders; Neutral is left out, Happy is happiness."""
    report = json.loads((copy / "accuracy" / "accuracy.json").read_text())
    assert report["settings"]["dataset"] == "caer-s"
    occurring = {label: number for label, number in zip(report["labels"], report["examples"]) if number}
    assert occurring == {"anger": 2, "happiness": 2}
    assert report["images"] == 4


@claims("docs/weights.md", "cocoer-infer examples/astronaut.png --explain why.html --style release")
def the_release_style_is_another(copy, printed):
    """Boxes are thin and of pure green, as CocoER's own script draws them."""
    assert "image: outputs/astronaut.png" in printed
    with Image.open(copy / "outputs" / "astronaut.png") as annotated:
        pixels = np.asarray(annotated.convert("RGB"))
    assert (pixels == GREEN).all(axis=-1).sum() > 200
    assert "SYNTHETIC" in (copy / "why.html").read_text()


@claims("docs/tuning.md", "cocoer-infer pictures/ --no-images --quiet")
def results_are_written_without_a_word(copy, printed):
    assert printed == ""
    assert len((copy / "outputs" / "results.jsonl").read_text().splitlines()) == 3


@claims("docs/web.md", "cocoer-web")
def the_gateway_serves(copy, printed):
    assert printed == ""


@claims("docs/web.md", "curl -s -F image=@examples/astronaut.png http://127.0.0.1:8080/v1/recognise")
def curl_gets_what_the_endpoints_answer(copy, printed):
    result = json.loads((copy / "result.json").read_text())
    jsonschema.validate(result, SCHEMA)
    assert len(result["persons"]) == 1
    with Image.open(copy / "annotated.webp") as annotated:
        assert annotated.format == "WEBP"
    assert "SYNTHETIC" in (copy / "why.html").read_text()


@claims("docs/web.md", "curl -s -F image=@examples/astronaut.png -F 'persons=")
def parameters_act(copy, printed):
    (one,) = json.loads((copy / "boxes.json").read_text())["persons"]
    assert one["body_box"] == [84, 20, 363, 512]
    with Image.open(copy / "heads.png") as annotated, Image.open(SAMPLE) as before:
        assert (annotated.format, annotated.width) == ("PNG", before.width)


@claims("docs/web.md", "curl -s -F image=@README.md")
def errors_are_problems(copy, printed):
    """The one that the page shows."""
    (shown,) = [block.text for block in blocks("docs/web.md") if block.language == "json"]
    assert json.loads((copy / "error.json").read_text()) == json.loads(shown)


@claims("docs/vlm.md", "cocoer-vlm examples/astronaut.png --model llava --base-url http://localhost:11434/v1 --dry-run")
def a_model_is_asked_in_three_ways(copy, printed):
    """The first command asks nothing, so that only the second's words are printed."""
    first, *rows = printed.splitlines()
    assert first.startswith("examples/astronaut.png, person 1  (excluded first: ")
    names = ["CocoER", "single", "multi", "enhanced", "only enhanced"]
    assert [row[2:17].strip() for row in rows] == names
    (shown,) = json.loads((copy / "vlm.json").read_text())["images"]
    (one,) = shown["persons"]
    assert {answer["kind"] for answer in one["answers"].values()} == {"labels"}
    assert "</html>" in (copy / "vlm.html").read_text()


@claims("docs/vlm.md", "cocoer-vlm --show-prompt > mine.md")
def a_prompt_is_ones_own(copy, printed):
    assert printed == ""
    assert "# question" in (copy / "mine.md").read_text()
    mine = json.loads((copy / "mine.json").read_text())
    before = json.loads((copy / "vlm.json").read_text())
    assert mine["prompt_digest"] == before["prompt_digest"], "the same words"
    assert mine["answers_kept"] == 1, "so that nothing is asked anew"


@claims("docs/vlm.md", "python -m benchmarks.vlm --annotations emotic/Annotations.mat --images emotic --model llava")
def modes_are_compared(copy, printed):
    for name in ("vlm.md", "vlm.json", "vlm.png"):
        assert (copy / "vlm" / name).is_file()
    assert "enhanced - multi" in printed.replace("\N{MINUS SIGN}", "-")


def name_of_check(block):
    """The longest name that this block's begins with; None: there is no check."""
    return max((name for name in CHECKS if block.name.startswith(name)), key=len, default=None)


RUNNABLE = {
    page: found
    for page in GUIDES
    if page != ELSEWHERE and (found := [block for block in blocks(page) if block.language in RUN])
}


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_does_what_it_says(page, copy, opencv_server, tmp_path):
    with contextlib.ExitStack() as stack:
        reader = Reader(copy, opencv_server, tmp_path / "log", stack)
        for block in RUNNABLE[page]:
            printed = reader.follow(block)
            if block.shown is None:
                CHECKS[name_of_check(block)](copy, printed)
            else:
                different = difference(block.shown, printed)
                assert not different, f"{block.name}\n{different}"


def test_every_block_is_compared_or_checked():
    """A block without a check, and a check without a block, are mistakes."""
    silent = [block for found in RUNNABLE.values() for block in found if block.shown is None]
    assert [block.name for block in silent if name_of_check(block) is None] == []
    assert {name_of_check(block) for block in silent} == set(CHECKS)


def keys(value):
    """Names of an object and of what is in it, lists taken as their first element."""
    if isinstance(value, list):
        return [keys(value[0])] if value and isinstance(value[0], dict) else None
    return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None


def test_the_example_is_the_schema(client, sample_bytes):
    """docs/result.md's refusal is a real one, and its RESULT has the keys of a real one, which the schema takes."""
    refusal, example = [json.loads(block.text) for block in blocks("docs/result.md") if block.language == "json"]
    jsonschema.validate(refusal, SCHEMA)
    with pytest.raises(InvalidRequest) as caught:
        client.infer_raw(b"junk", on_refusal="answer")
    told = {"code": "INVALID_ARG", "message": str(caught.value), "reason": caught.value.reason}
    assert refusal == {"error": told}
    real = client.infer_raw(sample_bytes, [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}])
    for part in (example, real):
        part["persons"][0]["coordination"].update(lambda_w2={}, lambda_b2={})  # which levels stay differs
    assert keys(example) == keys(real)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, SCHEMA)


def test_the_fields_are_explained():
    """docs/result.md's tables have every key of a person that is a result of the network."""
    page = (PROJECT / "docs" / "result.md").read_text()
    (fields,) = [part["properties"] for part in SCHEMA["$defs"].values() if "emo_process" in part.get("properties", ())]
    explained = set(fields) - {"id", "body_box", "head_box", "scores"}
    assert {name for name in explained if f"`{name}`" not in page} == set()
