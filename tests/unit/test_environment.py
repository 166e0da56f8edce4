"""What ``make setup`` installs, and what it says before; by a stand-in for pip, and pip where its words matter."""

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT
from tools import checkout, install_torch
from tools.install_torch import CPU_LOCK, CUDA_COMES, CUDA_LOCK, Outcome, locked_version, outcome_of

CPU, CUDA = locked_version(CPU_LOCK), locked_version(CUDA_LOCK)
PIP = """
import json, os, sys
from pathlib import Path

here = Path(__file__).resolve().parent.parent
lock = "cpu" if "cpu" in sys.argv[-1] else "cuda"
plan = json.loads((here / "plan.json").read_text())[lock]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
print(plan["says"], flush=True)
if plan.get("installs"):
    for old in here.glob("torch-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    new = here / f"torch-{plan['installs']}.dist-info"
    new.mkdir()
    (new / "METADATA").write_text(f"Name: torch\\nVersion: {plan['installs']}\\n")
sys.exit(plan.get("code", 0))
"""
NONE_HERE = """\
ERROR: Could not find a version that satisfies the requirement torch==9+cpu (from versions: 2.12.1, 2.13.0)
ERROR: No matching distribution found for torch==9+cpu
"""
NO_NETWORK = f"WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError': /simple\n{NONE_HERE}"
WRONG_HASH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    Got 67\n"


@pytest.fixture
def standin(tmp_path):
    """Runs the command with a pip that says and does what is planned, in an environment that has no PyTorch."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(PIP)

    def run(cpu, cuda=None):
        cuda = cuda or {"says": "Successfully installed torch", "installs": CUDA}
        (tmp_path / "plan.json").write_text(json.dumps({"cpu": cpu, "cuda": cuda}))
        (tmp_path / "calls").write_text("")
        result = subprocess.run(
            [sys.executable, "-S", PROJECT / "tools" / "install_torch.py", "--extra-index-url", "https://x"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
        for call in calls:
            assert {"--require-hashes", "--no-deps", "--extra-index-url", "https://x"} <= set(call)
        return result, [Path(call[-1]) for call in calls]

    return run


def test_the_cpu_build_where_there_is_one(standin):
    result, calls = standin({"says": "Successfully installed torch", "installs": CPU})
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert calls == [CPU_LOCK]


def test_cuda_is_announced_before_it_comes(standin):
    result, calls = standin({"says": NONE_HERE, "code": 1})
    assert result.returncode == 0
    assert result.stdout.splitlines() == [CUDA_COMES, "Successfully installed torch"]
    assert result.stderr == ""
    assert calls == [CPU_LOCK, CUDA_LOCK]


def test_what_is_there_is_not_announced_again(standin):
    standin({"says": NONE_HERE, "code": 1})
    result, calls = standin({"says": NONE_HERE, "code": 1}, {"says": ""})
    assert (result.returncode, result.stdout.strip()) == (0, "")
    assert calls == [CPU_LOCK, CUDA_LOCK]


def test_an_older_pytorch_does_not_count(standin):
    standin({"says": "", "installs": "2.0.0+cpu"}, {"says": ""})
    result, _ = standin({"says": NONE_HERE, "code": 1})
    assert CUDA_COMES in result.stdout


def test_no_build_is_locked_for_this_python(standin):
    """pip passes over the lock's one entry, and calls that success."""
    result, calls = standin({"says": "Ignoring torch: markers 'python_full_version >= \"3.11\"' don't match"})
    assert CUDA_COMES in result.stdout
    assert calls == [CPU_LOCK, CUDA_LOCK]


@pytest.mark.parametrize("says", [NO_NETWORK, WRONG_HASH, "ERROR: Could not install packages: No space left on device"])
def test_other_failures_end_with_pips_message(standin, says):
    """Nothing is fetched instead."""
    result, calls = standin({"says": f"Using pip 99\nLooking in indexes: x\n{says}", "code": 2})
    assert result.returncode == 2
    assert calls == [CPU_LOCK]
    assert result.stdout == ""
    assert result.stderr == f"{says.rstrip()}\nerror: PyTorch could not be installed; pip says above why\n"


def test_a_failing_cuda_install_fails(standin):
    result, _ = standin({"says": NONE_HERE, "code": 1}, {"says": "ERROR: no space", "code": 3})
    assert result.returncode == 3


@contextlib.contextmanager
def index(status):
    """A package index that answers everything alike."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, http.server's name
            self.send_error(status)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        finally:
            server.shutdown()
            thread.join()


def pips_own(tmp_path, *flags):
    """What this environment's pip makes of a lock of a PyTorch that is nowhere."""
    (tmp_path / "lock").write_text(f"torch==9.9.9+cpu --hash=sha256:{'0' * 64}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-vv", "--dry-run", "--ignore-installed", "--require-hashes"]
        + ["--no-deps", "--retries", "0", "--timeout", "5", *flags, "-r", tmp_path / "lock"],
        env={**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return outcome_of(result.returncode, result.stdout), result.stdout


def test_pips_words_for_an_absent_build(tmp_path):
    outcome, output = pips_own(tmp_path, "--no-index")
    assert outcome is Outcome.ABSENT, output
    with index(404) as url:
        outcome, output = pips_own(tmp_path, "--index-url", url)
    assert outcome is Outcome.ABSENT, output


def test_pips_words_for_other_failures(tmp_path):
    with index(403) as url:
        outcome, output = pips_own(tmp_path, "--index-url", url)
    assert outcome is Outcome.FAILED, output
    outcome, output = pips_own(tmp_path, "--index-url", url)  # nobody listens there any more
    assert outcome is Outcome.FAILED, output
    (tmp_path / "torch-9.9.9+cpu-py3-none-any.whl").write_text("another")
    outcome, output = pips_own(tmp_path, "--no-index", "--find-links", str(tmp_path))
    assert outcome is Outcome.FAILED, output
    assert "DO NOT MATCH THE HASHES" in install_torch.messages(output)


def test_there_is_no_wheel_of_the_checkout(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, "."],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode != 0
    assert checkout.INSTEAD in result.stdout + result.stderr
    assert "pip install ./client" in checkout.INSTEAD
    assert not list(tmp_path.iterdir())


# The Makefile and the hooks.

MAKEFILE = (PROJECT / "Makefile").read_text()
HOOKS = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
WELL_KNOWN = {"check-added-large-files", "check-merge-conflict", "end-of-file-fixer", "trailing-whitespace"}


def make(*arguments):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=PROJECT, env=kept, capture_output=True, text=True, check=True
    ).stdout


def test_every_target_and_variable_is_listed():
    targets = set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)
    assert set(phony.replace("\\\n", " ").split()) == targets
    first, second = make().split("\n\n")
    assert {line.split()[0] for line in first.splitlines()} == targets
    variables = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))
    assert variables == {
        "PYTHON", "PIP_FLAGS", "WORKERS", "SEED", "DEVICE", "PORT", "TRITON", "PORTS", "BACKENDS", "TOLERANCE",
    }  # fmt: skip
    assert {line.partition("=")[0] for line in second.splitlines()[1:]} == variables


@pytest.mark.parametrize("target", ["test", "test-unit", "test-full", "soak", "fuzz", "lint", "format"])
def test_commands_of_the_targets_exist(target):
    """Programs are in the environment, and the tests that they choose are there."""
    commands = [
        line for line in make("--dry-run", "--assume-old=.venv/.setup-dev", target).splitlines() if ".venv" in line
    ]
    commands = [line for line in commands if line.startswith(".venv/bin/")]
    assert commands
    for command in commands:
        program, *arguments = command.split()
        assert (Path(sys.executable).parent / Path(program).name).exists(), program
        for argument in arguments:
            if argument.startswith("tests/"):
                assert (PROJECT / argument).exists(), argument
        if keyword := re.search(r'-k "?([a-z_ ]+)"?', command):
            files = [PROJECT / argument for argument in arguments if argument.endswith(".py")]
            names = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)]
            for word in keyword[1].split(" or "):
                assert any(word.strip() in name for name in names), word


def test_hooks_run_the_environments_own_programs():
    hooks = {hook["id"]: hook for repository in HOOKS["repos"] for hook in repository["hooks"]}
    local = [hook for repository in HOOKS["repos"] if repository["repo"] == "local" for hook in repository["hooks"]]
    assert {hook["id"] for hook in local} == {"ruff-check", "ruff-format", "mypy"}
    for hook in local:
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert (Path(sys.executable).parent / Path(program).name).exists()
        assert hook["language"] == "system"
    assert set(hooks) - {hook["id"] for hook in local} == WELL_KNOWN
    for repository in HOOKS["repos"]:
        assert repository["repo"] == "local" or re.fullmatch(r"v\d+\.\d+\.\d+", repository["rev"])


def test_what_is_tracked_passes_the_hooks():
    """Ends of files, ends of lines, sizes; so that a hook changes nothing that nobody has touched."""
    hooks = {hook["id"]: hook for repository in HOOKS["repos"] for hook in repository["hooks"]}
    (limit,) = (int(argument.partition("=")[2]) for argument in hooks["check-added-large-files"]["args"])
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    excluded = re.compile(HOOKS["exclude"]) if "exclude" in HOOKS else None
    for name in filter(None, listed.split("\0")):
        if not (PROJECT / name).is_file() or (excluded and excluded.search(name)):
            continue
        content = (PROJECT / name).read_bytes()
        assert len(content) <= limit << 10, name
        if b"\0" not in content and content:
            assert content.endswith(b"\n"), name
            assert not content.endswith(b"\n\n"), name
            if not name.endswith(".md"):
                assert not re.search(rb"[ \t]+$", content, re.MULTILINE), name


def test_every_tools_settings_are_in_one_file():
    settings = re.findall(r"^\[tool\.(\w+)", (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {"ruff", "pytest", "mypy"} <= set(settings)
    others = ("pytest.ini", "mypy.ini", ".mypy.ini", "ruff.toml", ".ruff.toml", "tox.ini", ".flake8", "conftest.ini")
    assert not [name for name in others if (PROJECT / name).exists()]
    assert not re.search(r"^\[(tool:|mypy|flake8|pytest)", (PROJECT / "setup.cfg").read_text(), re.MULTILINE)
