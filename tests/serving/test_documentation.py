"""Every code block of the README and of docs/, run in a copy of the project as a newcomer would, page by page."""

import contextlib
import doctest
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from export.arguments import check_usage, parse_args
from export.models import DETECTION, RECOGNITION
from serving.server import TritonServer
from tests.conftest import PROJECT, SAMPLE
from tests.serving.conftest import SCHEMA
from tests.unit.test_accuracy import person
from tools import graph

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LANGUAGES = ("bash", "python", "json", "console", "")
"""Blocks without a language are what something prints; ``console`` needs a GPU, Docker or a cluster, and is not run."""
SERVE = "tritonserver --model-repository model_repository"
ELSEWHERE = "docs/operations.md"
"""Its blocks, of certificates and a server with TLS, are run by test_security.py."""


def blocks(page):
    return BLOCK.findall((PROJECT / page).read_text())


@pytest.fixture(scope="module")
def copy(tmp_path_factory, checkpoints, repositories):
    """The project's files, this environment as ``.venv``, weights in ``checkpoints/``, their engines, a user's data."""
    target = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in filter(lambda name: (PROJECT / name).is_file(), listed.stdout.splitlines()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    shutil.copytree(checkpoints(1), target / "checkpoints", copy_function=os.link, dirs_exist_ok=True)
    for engine in repositories(1).rglob("1/*"):
        if engine.suffix in (".onnx", ".json"):
            link = target / "model_repository" / engine.relative_to(repositories(1))
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(engine, link)
    for order in ("bgr", "rgb"):  # what a user has who has compared them before: built again where it differs
        built = target / ".cache" / "accuracy" / f"{order}-fp32"
        shutil.copytree(repositories(1), built, copy_function=os.link)
    (target / ".venv").symlink_to(sys.prefix)
    for stamp in (".setup", ".setup-batch", ".setup-dev"):
        (PROJECT / ".venv" / stamp).touch()
    write_data(target)
    return target


def write_data(target):
    """What the pages call the user's own: ``images``, ``emotic``, ``faces``."""
    with Image.open(SAMPLE) as image:
        whole = image.convert("RGB")
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
        self.printed = ""

    def bash(self, text):
        for commands in re.split(r"^(?=tritonserver |make )", text, flags=re.MULTILINE):
            first, _, rest = commands.partition("\n")
            if first == SERVE:
                assert rest.strip() == "", "it serves until it is stopped"
                self.server = self.stack.enter_context(TritonServer(self.copy / "model_repository", self.log))
            elif first == "make test":
                assert "pytest" in self.run(["make", "--dry-run", "test"])
            elif commands.strip():
                self.run(["bash", "-ec", commands])

    def python(self, text):
        self.run([sys.executable, "-c", text.replace("localhost:8000", f"127.0.0.1:{self.server.http_port}")])

    def json(self, text):
        json.loads(text)

    def run(self, command):
        # A make that was started by a make talks about it.
        inherited = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS", name)}
        own = {"COCOER_URL": self.server.url, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=self.copy, env={**inherited, **own}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.printed += done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def read(copy, opencv_server, tmp_path_factory):
    """Do what a page says, once for each page; what it printed."""

    @functools.cache
    def of(page):
        with contextlib.ExitStack() as stack:
            reader = Reader(copy, opencv_server, tmp_path_factory.mktemp("log") / "log", stack)
            for language, text in blocks(page):
                assert language in LANGUAGES, f"{page}: no test runs {language}"
                if language not in ("", "console"):
                    getattr(reader, language)(text)
        return reader.printed

    return of


@pytest.mark.parametrize("page", [page for page in PAGES if page != ELSEWHERE])
def test_a_page_does_what_it_says(page, read):
    read(page)


def test_the_readme_annotates_a_folder(copy, read):
    read("README.md")
    for name in ("300.png", "astronaut.png", "holiday/300.png", "holiday/400.png", "results.jsonl"):
        assert (copy / "outputs" / name).exists()
    assert (copy / "images.csv").read_text().count("\n") == 4
    assert (copy / "why.html").exists()


def test_channel_orders_side_by_side(copy, read):
    """docs/weights.md builds and serves bgr and rgb, one after the other."""
    read("docs/weights.md")
    report = json.loads((copy / "channels" / "accuracy.json").read_text())
    assert [variant["name"] for variant in report["variants"]] == ["bgr fp32", "rgb fp32"]
    first, second = report["variants"]
    assert second["gain"]["value"] == pytest.approx(second["mAP"]["value"] - first["mAP"]["value"])
    assert (copy / "channels" / "accuracy.png").exists()


def test_the_first_two_commands():
    """What CI runs, and what a newcomer does first."""
    first = next(text for language, text in blocks("README.md") if language == "bash")
    assert first == "make demo\nmake test\n"
    assert re.search(r"^make test$", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_demo_says_what_it_did(read):
    demo, stopped, _ = read("README.md").partition("Server stopped.\n")
    assert stopped
    assert "SYNTHETIC" in demo
    assert "image: outputs/astronaut.png" in demo


def keys(value):
    """Names of an object and of what is in it, lists taken as their first element."""
    if isinstance(value, list):
        return [keys(value[0])] if value and isinstance(value[0], dict) else None
    return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None


def test_the_example_is_the_schema(client, sample_bytes):
    """docs/result.md's RESULT has the keys of a real one; the schema takes the real one and not the shortened."""
    ((_, text),) = [block for block in blocks("docs/result.md") if block[0] == "json"]
    example = json.loads(text)
    real = client.infer_raw(sample_bytes, [{"body": [84, 20, 363, 512], "head": [177, 67, 270, 160]}])
    for part in (example, real):
        part["persons"][0]["coordination"].update(lambda_w2={}, lambda_b2={})  # which levels stay differs
    assert keys(example) == keys(real)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, SCHEMA)


def test_the_schema_describes_and_refuses():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate({"error": {"code": "INVALID_ARG", "message": "IMAGE is empty"}}, SCHEMA)
    for wrong in ({}, {"error": {"code": "INVALID_ARG"}}, {"persons": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_the_drawn_graph_is_the_served_one():
    assert (PROJECT / "docs" / "graph.svg").read_text() == graph.svg()
    assert {step.model for ensemble in (DETECTION, RECOGNITION) for step in ensemble.steps} == set(graph.PLACES)
    assert doctest.testmod(graph).failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (PROJECT / page).read_text()):
        assert link.startswith("https://") or ((PROJECT / page).parent / link).exists(), link


CONSOLE = [
    (page, line) for page in PAGES for kind, text in blocks(page) if kind == "console" for line in text.splitlines()
]


@pytest.mark.parametrize(("page", "line"), CONSOLE)
def test_what_can_not_be_run_is_right_as_far_as_one_sees(page, line):
    """Options there are, that go together; files and targets there are."""
    program, *arguments = shlex.split(line)
    if program == "python":
        assert arguments[0] == "export/build_engines.py"
        check_usage(parse_args(arguments[1:]))
    elif program == "make":
        assert subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT, capture_output=True).returncode == 0
    elif program == "helm":
        settings = [value.partition("=")[0] for flag, value in zip(arguments, arguments[1:]) if flag == "--set"]
        assert (PROJECT / arguments[2] / "Chart.yaml").is_file()
        values = yaml.safe_load((PROJECT / arguments[2] / "values.yaml").read_text())
        assert all(functools.reduce(dict.__getitem__, name.split("."), values) for name in settings)
    else:
        assert program == "docker"
        assert (PROJECT / arguments[arguments.index("-f") + 1]).is_file()
