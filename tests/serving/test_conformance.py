"""``make conformance`` itself: what it tests, what it leaves out and says so, and its verdict."""

import re
from pathlib import Path

import pytest

from tests.conformance import NATIVE, NEEDS, NEEDS_OF_FIXTURES, merge_backends, running_server
from tests.conftest import PROJECT, run_python

pytestmark = pytest.mark.needs("checkout")

SERVING = Path(__file__).parent
BACKENDS = PROJECT / "serving" / "backends"


def conformance(*arguments):
    return run_python("-m", "pytest", "-p", "tests.conformance", "-p", "no:cacheprovider", "-n0", *arguments)


def reported(run, name):
    """The report's lines of this name."""
    return [line[12:] for line in run.stdout.splitlines() if line.startswith(f"{name:12}")]


def test_against_a_server_that_runs(server):
    """Some tests that it can stand, some that it can't."""
    ports = f"--triton-ports={server.grpc_port},{server.metrics_port}"
    files = [f"tests/serving/test_{name}.py" for name in ("served", "lifecycle", "conformance")]
    chosen = ["-k", "formats or crowds or test_result or killed or refused_repository or wrong_address"]
    run = conformance(f"--triton={server.host}:{server.http_port}", ports, *files, *chosen)
    assert run.returncode == 0, run.stdout + run.stderr
    assert reported(run, "server") == [f"triton 2.51.0 at {server.host}:{server.http_port}"]
    assert reported(run, "backends") == ["ensemble (2 models), onnxruntime (8 models), python (1 models)"]
    assert reported(run, "held to") == ["what PyTorch says with these weights"]
    left_out = dict(re.findall(r"^(\d+) tests: .* \((\w+)\)$", "\n".join(reported(run, "not tested")), re.MULTILINE))
    assert set(left_out.values()) == {"own_server", "checkout"}
    (verdict,) = reported(run, "verdict")
    assert re.fullmatch(r"PASSED: 11 passed, 0 failed, \d+ not tested", verdict)
    assert server.is_ready()


@pytest.mark.full
def test_with_other_backends(repositories):
    """Those that the tests use anyway, given as a user gives native ones."""
    run = conformance(f"--backends={BACKENDS}", "tests/serving/test_served.py", "-k", "formats and JPEG or facts")
    assert run.returncode == 0, run.stdout + run.stderr
    assert reported(run, "tested with") == [f"onnxruntime (Python) of {BACKENDS}"]
    assert reported(run, "verdict") == ["PASSED: 2 passed, 0 failed, 0 not tested"]


def test_a_native_backend_replaces_ours(tmp_path):
    """Not beside it; what is not given is there all the same."""
    native = tmp_path / "given" / "onnxruntime"
    native.mkdir(parents=True)
    (native / NATIVE).write_bytes(b"")
    assert merge_backends(native.parent, tmp_path / "merged") == f"onnxruntime (native) of {native.parent}"
    assert [path.name for path in (tmp_path / "merged" / "onnxruntime").iterdir()] == [NATIVE]
    assert (tmp_path / "merged" / "python" / "libtriton_python.so").is_file()


@pytest.mark.parametrize("address", ["", "localhost", "localhost:http", ":8000"])
def test_a_wrong_address(address):
    with pytest.raises(pytest.UsageError, match="TRITON is host:port, as in localhost:8000"):
        running_server(address, "")


def test_a_directory_without_backends(tmp_path):
    with pytest.raises(pytest.UsageError, match="has no backends"):
        merge_backends(tmp_path, tmp_path / "merged")


def test_nobody_at_the_address():
    run = conformance("--triton=127.0.0.1:9", "tests/serving/test_served.py")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "127.0.0.1:9 can't be asked" in run.stderr
    assert "gRPC is expected on port 10, metrics on 11 (PORTS=GRPC,METRICS says otherwise)" in run.stderr
    assert "Traceback" not in run.stderr


def test_every_need_is_explained():
    text = "".join(path.read_text() for path in SERVING.glob("test_*.py") if path != Path(__file__))
    used = {need for marker in re.findall(r"mark\.needs\(([^)]*)\)", text) for need in re.findall(r'"(\w+)"', marker)}
    assert used | set(NEEDS_OF_FIXTURES.values()) == set(NEEDS)


def test_who_starts_a_server_says_so():
    """By the marker, or by the fixture that builds what it serves."""
    for path in SERVING.glob("test_*.py"):
        module = path.read_text()
        if "pytestmark = pytest.mark.needs(" in module:
            continue
        for test in re.split(r"^(?=@|def )", module, flags=re.MULTILINE):
            if re.search(r"\bwith\b[^#]*\bTritonServer\(", test) and re.match(r"def test_", test):
                before = module[: module.index(test)].rsplit("\n\n", 1)[-1]
                asks = test.partition("):")[0]
                wanted = ("repositories", "damaged", "certificates", "moody", "twins")
                assert "needs(" in before or any(name in asks for name in wanted), test.splitlines()[0]
