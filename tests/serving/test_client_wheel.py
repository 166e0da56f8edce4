"""The wheel of ``client/`` in an environment of its own, outside the checkout, against the real server.

With this interpreter and the locked versions of what it needs; by ``make test-pythons`` with each Python that is there,
and the newest versions.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PROJECT, SAMPLE

pytestmark = pytest.mark.needs("checkout")

OWN = "{}.{}".format(*sys.version_info)
NAMED = os.environ.get("CLIENT_PYTHONS", "").split()
"""Versions to try, as ``3.12``; none: this one."""
OTHERS = ("benchmarks", "client", "cocoer", "cocoer_bls", "export", "serving", "tests", "tools")
"""What only the checkout has."""


def find_python(version):
    """An interpreter of this version, on PATH or of pyenv; None where there is none."""
    if version == OWN:
        return sys.executable
    places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    ask = "import sys; print('{}.{}'.format(*sys.version_info))"
    for place in map(str, filter(None, places)):
        # A shim of pyenv's may be there for a version that isn't.
        told = subprocess.run([place, "-c", ask], capture_output=True, text=True, timeout=30)
        if told.stdout.strip() == version:
            return place
    return None


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **options)


def checked(*command, **options):
    done = run(*command, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools leaves folders behind."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        PROJECT / "client", place / "client", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    flags = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    checked(sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", place, place / "client")
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=NAMED or [OWN])
def installed(request, wheel, tmp_path_factory):
    """The programs of an environment that has the wheel and what it asks for."""
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"no python{request.param} on PATH or in ~/.pyenv/versions")
    place = tmp_path_factory.mktemp("environment")
    checked(python, "-m", "venv", place)
    constraints = place / "constraints.txt"
    locked = re.findall(r"^([\w.-]+==[^\\\n]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    constraints.write_text("\n".join([] if NAMED else locked))
    pip = [place / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    checked(*pip, "install", "--only-binary", ":all:", "--constraint", constraints, wheel)
    return place / "bin"


@pytest.fixture
def ask(installed, opencv_server, tmp_path):
    """Run one of the environment's programs where no project is; the server is where it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["COCOER_URL"] = opencv_server.url
    return lambda program, *arguments: run(installed / program, *arguments, cwd=tmp_path, env=environment)


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    sources = {
        str(path.relative_to(PROJECT / "client")) for path in (PROJECT / "client").rglob("cocoer_client/**/*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    assert {"cocoer_client/py.typed", "cocoer_client/drawing/explain.html.j2"} <= set(names)
    top = {name.partition("/")[0] for name in names}
    (information,) = top - {"cocoer_client"}
    assert re.fullmatch(r"cocoer_client-[\d.]+\.dist-info", information)
    assert {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= set(names)


def test_nothing_else_is_installed(ask):
    script = (
        "import json\n"
        "from importlib.metadata import files, version\n"
        "from importlib.util import find_spec\n"
        "places = sorted({file.parts[0] for file in files('cocoer-client')})\n"
        f"found = [name for name in {OTHERS!r} if find_spec(name)]\n"
        "print(json.dumps([places, found, version('cocoer-client')]))"
    )
    done = ask("python", "-c", script)
    assert done.returncode == 0, done.stderr
    places, found, version = json.loads(done.stdout)
    assert places == ["..", "cocoer_client", f"cocoer_client-{version}.dist-info"]  # .. is the programs'
    assert found == []


def test_the_command(ask, tmp_path):
    done = ask("cocoer-infer", SAMPLE, "--explain", "why.html", "--csv", "table.csv")
    assert done.returncode == 0, done.stderr
    assert f"{SAMPLE}  512x512  1 person" in done.stdout
    assert "image: outputs/astronaut.png" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "table.csv", "why.html"]
    assert "</html>" in (tmp_path / "why.html").read_text()


def test_the_library(ask):
    script = (
        "import asyncio, json, sys\n"
        "from cocoer_client import AsyncCocoerClient, CocoerClient\n"
        "with CocoerClient() as client:\n"
        "    result = client.infer(sys.argv[1])\n"
        "async def other():\n"
        "    async with AsyncCocoerClient() as client:\n"
        "        return await client.infer(sys.argv[1])\n"
        "same = asyncio.run(other()).persons[0].head_box == result.persons[0].head_box\n"
        "print(json.dumps([result.width, len(result.persons[0].scores['pred']), same]))"
    )
    done = ask("python", "-W", "error", "-c", script, SAMPLE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [512, 26, True]


def test_what_needs_more_says_what(ask):
    """Videos, the release's style and batches, without their packages."""
    assert "usage: cocoer-batch" in ask("cocoer-batch", "--help").stdout
    done = ask("cocoer-batch", "images", "--output", "out")
    assert done.returncode == 2
    assert "cocoer-batch needs ray, pyarrow, fsspec: pip install 'cocoer-client[batch]'" in done.stderr
    done = ask("cocoer-infer", SAMPLE, "--style", "release")
    assert done.returncode == 1
    assert "--style release needs OpenCV: pip install 'cocoer-client[video]'" in done.stderr
