"""The README's commands, run in a copy of the project as a newcomer would."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.server import TritonServer
from tests.conftest import PROJECT, run_python

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture(scope="module")
def copy(tmp_path_factory, checkpoints, repositories):
    """The project's files, this environment as ``.venv``, weights in ``checkpoints/``, their engines built."""
    target = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    shutil.copytree(checkpoints(1), target / "checkpoints", copy_function=os.link, dirs_exist_ok=True)
    for engine in repositories(1).rglob("1/*"):
        if engine.suffix in (".onnx", ".json"):
            link = target / "model_repository" / engine.relative_to(repositories(1))
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(engine, link)
    (target / ".venv").symlink_to(sys.prefix)
    for stamp in (".setup", ".setup-dev"):
        (Path(sys.prefix) / stamp).touch()
    return target


def bash(command, directory):
    # A make that was started by a make talks about it.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "MFLAGS"}
    result = subprocess.run(
        ["bash", "-ec", command], cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_make_demo(copy):
    first, second = blocks("bash")[0].split("\n")[:2]
    assert (first, second) == ("make demo", "make test")
    output = bash(first, copy)
    assert "SYNTHETIC" in output
    assert "picture: outputs/astronaut.png" in output
    assert output.rstrip().endswith("Server stopped.")
    assert (copy / "outputs" / "astronaut.png").is_file()
    assert "pytest" in bash("make --dry-run test", copy)


def test_serve_and_ask(copy, tmp_path):
    """Every other command, in order; the server on free ports instead of Triton's own."""
    _, serve, ask = blocks("bash")
    *build, start = serve.strip().splitlines()
    bash("\n".join(build), copy)
    assert start == "tritonserver --model-repository model_repository"
    with TritonServer(copy / "model_repository", tmp_path / "log") as server:
        asked = ask.replace("client/infer.py", f"client/infer.py --url {server.url}")
        output = bash(asked, copy)
        assert output.count("picture: outputs/astronaut.png") == 2
        assert len(json.loads((copy / "result.json").read_text())["persons"]) == 1
        (python,) = blocks("python")
        result = run_python("-c", python.replace("localhost:8001", server.url))
        assert result.returncode == 0, result.stderr


def test_schema_example_is_the_real_schema(opencv_server, tmp_path):
    """The README's RESULT has the keys of a real one."""
    options = ["--url", opencv_server.url, "--json", "-", "--output-dir", tmp_path]
    real = json.loads(run_python("client/infer.py", "examples/astronaut.png", *options).stdout)
    (text,) = blocks("json")
    example = json.loads(text)
    assert set(example) == set(real) - {"file"}
    for key in ("image", "model"):
        assert set(example[key]) == set(real[key])
    assert set(example["persons"][0]) == set(real["persons"][0])
    for key in ("scores", "losses", "coordination"):
        assert set(example["persons"][0][key]) == set(real["persons"][0][key])


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (PROJECT / link).exists(), link
