"""ONNX Runtime's wheels, since 1.29, keep an identifier of the machine and report what they run, unless told not to."""

import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

BACKEND = """
import runpy, sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
runpy.run_path("serving/backends/onnxruntime/model.py")
"""


@pytest.mark.parametrize(
    "first", ["import export", "import benchmarks", BACKEND], ids=["export", "benchmarks", "served"]
)
def test_onnxruntime_reports_nothing(tmp_path, first):
    """Where it would report, it writes an identifier and a database of what is to be sent as soon as it is loaded."""
    # In the environment of a CI it reports nothing of itself.
    unset = ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    places = {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    code = f"{first}\nimport onnxruntime; print(onnxruntime.get_available_providers())"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **places}, cwd=PROJECT, capture_output=True, text=True
    )
    assert "CPUExecutionProvider" in run.stdout, run.stderr
    assert list(tmp_path.rglob("*")) == []
