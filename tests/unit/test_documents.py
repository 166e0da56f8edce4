"""What the documentation names exists: paths, targets of make, options, links, anchors; licence and citation."""

import contextlib
import doctest
import functools
import hashlib
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from unittest import mock

import jsonschema
import pytest
import yaml

from cocoer import __version__
from export.arguments import check_usage, parse_args
from tests import pages
from tests.builds import PROJECT
from tests.pages import GUIDES, LANGUAGES, PAGES, SCHEMA, blocks, code_spans, links, prose, read
from tools import graph

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt."""

SOURCES = (".py", ".md", ".yaml", ".yml", ".json", ".toml", ".cfg", ".pbtxt", ".in", ".lock", ".cff")
COMMANDS = {
    "cocoer-infer": "client/infer.py",
    "cocoer-batch": "client/batch.py",
    "cocoer-web": "client/web.py",
    "client/infer.py": "client/infer.py",
    "client/web.py": "client/web.py",
    "cocoer-vlm": "client/vlm.py",
    "export/build_engines.py": "export/build_engines.py",
    "benchmarks/run.py": "benchmarks/run.py",
    "benchmarks/folder.py": "benchmarks/folder.py",
    "benchmarks/gateway.py": "benchmarks/gateway.py",
    "benchmarks/accuracy.py": "benchmarks/accuracy.py",
    "benchmarks.vlm": "benchmarks/vlm.py",
    "benchmarks.bf16": "benchmarks/bf16.py",
    "benchmarks.pipeline": "benchmarks/pipeline.py",
    "benchmarks/photos.py": "benchmarks/photos.py",
    "cocoer.checkpoints.synthetic": "cocoer/checkpoints/synthetic.py",
    "export.detectors.synthetic": "export/detectors/synthetic.py",
    "cocoer_client.schema": "client/cocoer_client/schema.py",
}
"""How the pages call a command of ours -> its file."""
OTHERS = {
    *("--http-address", "--grpc-address", "--metrics-address", "--model-control-mode", "--exit-on-error"),
    *("--strict-readiness", "--http-restricted-api", "--grpc-restricted-protocol", "--exit-timeout-secs"),
    *("--backend-config", "--backend-directory", "--grpc-use-ssl-mutual", "--grpc-root-cert"),
    "--model-repository",  # Triton's, up to here
    *("--limit-mm-per-prompt", "--mmproj"),  # vLLM's, llama.cpp's
    *("--shm-size", "--extra-index-url", "--check", "--target"),  # Docker's, pip's, sha256sum's
    "--help",
}


def tracked():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (PROJECT / name).exists()}


FILES = tracked()
FOLDERS = {"/".join(name.split("/")[:depth]) for name in FILES for depth in range(1, name.count("/") + 1)}


def test_license_is_the_standard_text():
    assert hashlib.sha256((PROJECT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_notice_names_what_people_bring():
    notice = read("NOTICE")
    for name in ("GWT.pth", "VI_weights/w.pth", "RN50.pt", "scrfd_person_2.5g.onnx", "det_10g.onnx", "EMOTIC"):
        assert name in notice


def test_citation_is_the_readmes():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == __version__
    paper = citation["preferred-citation"]
    (bibtex,) = [block.text for block in blocks("README.md") if block.language == "bibtex"]
    field = dict(re.findall(r"(\w+)\s*= \{(.*)\}", bibtex))
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (field["title"], field["author"]) == (paper["title"], names)
    assert (field["year"], field["pages"]) == (str(paper["year"]), f"{paper['start']}-{paper['end']}")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (PROJECT / page).parent / target if target else PROJECT / page
        assert path.exists(), link
        if anchor:
            assert anchor in pages.anchors(path.resolve().relative_to(PROJECT).as_posix()), link


def is_there(path):
    """Whether a path in the text is a file or folder of the project, named from its root or from further in; or one
    that a command of the project writes, which git ignores."""
    path = path.rstrip("/")
    if path in FILES | FOLDERS or any(name.endswith(f"/{path}") for name in FILES | FOLDERS):
        return True
    return subprocess.run(["git", "check-ignore", "-q", path], cwd=PROJECT).returncode == 0


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """In a changelog's tables the first column is what has been."""
    text = re.sub(r"^\| `[^|]*\|", "|", prose(page), flags=re.MULTILINE) if page == "CHANGELOG.md" else prose(page)
    tops = {name.split("/")[0] for name in FILES}
    for word in re.findall(r"`([^`]+)`", text):
        for path in re.findall(r"(?<![\w:/.=-])[\w.-]+(?:/[\w.-]+)+/?(?![\w*])", word):
            if path.split("/")[0] in tops or path.endswith(SOURCES):
                assert is_there(path), path
        if re.fullmatch(r"[\w.-]+/", word) and word.rstrip("/") in ("cocoer", "export", "serving", "client"):
            assert is_there(word), word


TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_targets_exist(page):
    text = "\n".join([*code_spans(page), *(block.text for block in blocks(page) if block.language != "")])
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert target in TARGETS, f"make {target}"


@functools.cache
def options_of(file):
    """The options in a command's ``--help``; none where there is no such command."""
    if not (PROJECT / file).is_file():
        return set()
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [file, "--help"]),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        runpy.run_path(str(PROJECT / file), run_name="__main__")
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", printed.getvalue()))


@pytest.mark.parametrize("file", sorted(set(COMMANDS.values())))
def test_commands_say_what_they_take(file):
    assert "--help" in options_of(file)


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page):
    every = OTHERS.union(*(options_of(file) for file in COMMANDS.values()))
    text = read(page)
    if page == "CHANGELOG.md":
        text = re.sub(r"^\| `[^|]*\|", "|", text, flags=re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        command = next((file for name, file in COMMANDS.items() if re.search(rf"(?<![\w/.]){name}(?![\w.])", span)), "")
        known = options_of(command) if command else every
        assert options_in(span) <= known, span


def lines_of_blocks():
    """Commands of all blocks in a shell's language."""
    return [
        (block.page, line)
        for page in PAGES
        for block in blocks(page)
        if block.language in ("bash", "console")
        for line in block.text.splitlines()
    ]


@pytest.mark.parametrize(("page", "line"), lines_of_blocks())
def test_commands_are_right_as_far_as_one_sees(page, line):
    """Options exist and go together; files and targets exist."""
    program, *arguments = shlex.split(line, comments=True)
    name = arguments[1] if program == "python" and arguments[0] == "-m" else (arguments or [""])[0]
    if program in COMMANDS:
        assert options_in(line) <= options_of(COMMANDS[program])
    elif program == "python":
        assert {"--help", *options_in(line)} <= options_of(COMMANDS[name])
        if name == "export/build_engines.py":
            check_usage(parse_args(arguments[1:]))
        elif arguments[0] == "-m":
            assert importlib.util.find_spec(name)
    elif program == "make":
        assert subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT, capture_output=True).returncode == 0
    elif program == "helm":
        settings = [value.partition("=")[0] for flag, value in zip(arguments, arguments[1:]) if flag == "--set"]
        assert (PROJECT / arguments[2] / "Chart.yaml").is_file()
        values = yaml.safe_load((PROJECT / arguments[2] / "values.yaml").read_text())
        for setting in settings:
            functools.reduce(dict.__getitem__, setting.split("."), values)  # KeyError where there is none
    elif program == "docker":
        assert (PROJECT / arguments[arguments.index("-f") + 1]).is_file()
    elif program == "pip":
        assert arguments[0] == "install"
        what = arguments[1].partition("[")[0]
        assert what == "cocoer-client" or (PROJECT / what / "pyproject.toml").is_file()
    else:
        assert program in ("source", "tritonserver", "openssl", "printf", "curl", "openapi-python-client")


@pytest.mark.parametrize("page", PAGES)
def test_named_tests_exist(page):
    names = re.findall(r"def (test_\w+)", "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py")))
    for expression in re.findall(r"pytest\b[^`]* -k (\w+)", read(page)):
        assert any(expression in name for name in names), f"-k {expression}"


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language(page):
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("CONTRIBUTING.md", "CHANGELOG.md")])
def test_one_word_for_one_thing(page):
    """The vocabulary of CONTRIBUTING.md's glossary; older words only where they are names in code."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    assert not re.findall(r"\b(?:pictures?|windows?|engines?)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_a_title_and_what_it_answers(page):
    title, empty, first, *_ = read(page).splitlines()
    assert title.startswith("# ")
    assert not empty
    assert first


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("where a crop is made", "cocoer_bls/images.py"),
        ("where RESULT is defined", "client/cocoer_client/results.py"),
        ("how to add a request parameter", "#a-request-parameter"),
        ("under which terms this may be used", "LICENSE"),
    ],
)
def test_a_newcomer_finds(question, answer):
    """On CONTRIBUTING's first screen, which the README leads to."""
    assert "CONTRIBUTING.md" in links("README.md")
    (line,) = [line for line in read("CONTRIBUTING.md").splitlines()[:15] if f"| {question} |" in line]
    assert f"]({answer})" in line


def test_crop_is_where_the_guide_says():
    from cocoer_bls import images

    assert images.crop.__module__ == "cocoer_bls.images"
    assert images.__file__ == str(PROJECT / "cocoer_bls/images.py")


def test_the_first_two_commands():
    """What CI runs, and what a newcomer does first."""
    first = next(block.text for block in blocks("README.md") if block.language == "bash")
    assert first == "make demo\nmake test\n"
    assert re.search(r"^make test$", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_first_screen():
    """What it is, its picture, the two commands and five lines of Python with what they print come first."""
    above, _, _ = read("README.md").partition("## Weights")
    first = next(block for block in blocks("README.md") if block.language == "python")
    assert first.text in above
    assert first.shown
    assert len(first.text.strip().splitlines()) <= 5
    assert '<img src="docs/demo.png"' in above
    assert len(above.splitlines()) < 80


def test_intended_use_is_told():
    for page in ("README.md", "docs/model-card.md"):
        text = prose(page)
        for words in ("Article 5(1)(f)", "2024/1689", "medical or safety reasons", "Article 50(3)", "Annex III"):
            assert words in text, f"{page}: {words}"


def test_the_guides_are_in_the_readme():
    assert {page for page in GUIDES if page.startswith("docs/")} <= set(links("README.md"))


def test_the_schema_describes_and_refuses():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate({"error": {"code": "INVALID_ARG", "message": "IMAGE is empty"}}, SCHEMA)
    for wrong in ({}, {"error": {"code": "INVALID_ARG"}}, {"persons": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_the_drawn_graph_is_the_served_one():
    assert (PROJECT / "docs" / "graph.svg").read_text() == graph.svg()
    ensembles = [read(f"tests/data/model_repository/{name}/config.pbtxt") for name in ("detection", "recognition")]
    assert {name for config in ensembles for name in re.findall(r'model_name: "(\w+)"', config)} == set(graph.PLACES)
    assert doctest.testmod(graph).failed == 0


def test_what_pages_are_compared_by():
    assert doctest.testmod(pages).failed == 0
    assert not pages.difference("1 ('anger',) 0.5\n", "1 ('fear', 'pain') 0.25\n")
    assert not pages.difference("a\n...\nb\n", "a\nx\ny\nb\n")
    assert pages.difference("1 person\n", "2 persons\n")
    assert pages.difference("decode 1.4\n", "detection 1.4\n")
