"""The lock files: complete, with hashes, and what the requirements ask for."""

import re

import pytest

from tests.conftest import PROJECT
from tests.tensorrt_api import VERSIONS
from tools import lock

LOCKS = sorted(path.name for path in PROJECT.glob("requirements*.lock"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==([^ ;\n]+)", re.MULTILINE)


def entries(name):
    return re.split(r"\n(?=\S)", (PROJECT / name).read_text().strip())[1:]


def versions(text):
    found = {}
    for package, version in PIN.findall(text):
        found.setdefault(package.lower(), set()).add(version)
    return found


def test_there_is_a_lock_for_everything():
    assert LOCKS == [
        "requirements-batch.lock",
        "requirements-dev.lock",
        "requirements-openvino.lock",
        "requirements-serve.lock",
        "requirements-tensorrt.lock",
        "requirements-tools.lock",
        "requirements-torch-cpu.lock",
        "requirements-torch-cuda.lock",
        "requirements-web.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_has_hashes(name):
    for entry in entries(name):
        requirement, *hashes = entry.split(" \\\n")
        assert PIN.match(requirement), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("kind", ["", "-batch", "-dev", "-openvino", "-serve", "-tensorrt", "-tools", "-web"])
def test_locked_is_what_is_asked_for(kind):
    asked = versions((PROJECT / f"requirements{kind}.in").read_text())
    # What one lock has, those that are installed on top of it don't repeat.
    below = {"": ["-torch-cuda"], "-batch": [""], "-dev": ["", "-batch"]}
    locks = [f"requirements{own}.lock" for own in (*below.get(kind, ()), kind)]
    locked = versions("\n".join((PROJECT / name).read_text() for name in locks))
    assert asked
    for package, wanted in asked.items():
        assert wanted <= locked[package], package


def test_nothing_is_locked_at_two_versions():
    """But for what differs between versions of Python, which says so."""
    seen = {}
    for name in (f"requirements{kind}.lock" for kind in ("", "-torch-cuda", "-batch", "-dev")):
        for entry in entries(name):
            requirement = entry.split(" \\\n")[0]
            package = requirement.partition("==")[0]
            assert package not in seen or (";" in requirement and ";" in seen[package]), requirement
            seen[package] = requirement


def test_cpu_build_is_of_the_same_version():
    cpu, cuda = (
        versions((PROJECT / f"requirements-torch-{kind}.lock").read_text())["torch"] for kind in ("cpu", "cuda")
    )
    assert {f"{version}+cpu" for version in cuda} == cpu
    assert lock.TORCH_CPU in (PROJECT / "requirements-torch-cpu.lock").read_text()


def test_bindings_that_the_export_is_held_to():
    names = sorted(path.name for path in (PROJECT / "tests" / "data").glob("tensorrt-*.lock"))
    assert (
        names == [f"tensorrt-{version}.lock" for version in lock.BINDINGS] == [f"tensorrt-{v}.lock" for v in VERSIONS]
    )
    for name in names:
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", (PROJECT / "tests" / "data" / name).read_text())) >= 3
