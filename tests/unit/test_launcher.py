"""The tritonserver command, with a shell script in Triton's place."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from serving import flags, launcher, wheel
from tests.conftest import PROJECT

FAKE = """#!/bin/sh
echo "$@"
exit 3
"""


@pytest.fixture
def fake(tmp_path):
    script = tmp_path / "tritonserver"
    script.write_text(FAKE)
    script.chmod(0o755)
    return script


def launch(fake, *arguments):
    environment = {**os.environ, "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "serving.launcher", *arguments]
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)


def test_installed_triton_gets_every_flag_and_its_exit_code_comes_back(fake):
    with launch(fake, "--model-repository", "x", "--http-address=0.0.0.0") as process:
        output, _ = process.communicate(timeout=30)
    *arguments, http, grpc = output.split()
    assert arguments == [
        "--model-repository",
        "x",
        "--http-address=0.0.0.0",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--model-control-mode=none",
        "--exit-on-error=true",
        "--strict-readiness=true",
    ]
    restricted = "shared-memory,model-repository,trace,logging:triton-admin-key="
    assert http.startswith(f"--http-restricted-api={restricted}")
    assert grpc.startswith(f"--grpc-restricted-protocol={restricted}")
    assert len(http.rpartition("=")[2]) > 40
    assert process.returncode == 3


def test_does_not_find_itself(fake, monkeypatch):
    monkeypatch.setattr(launcher, "CONTAINER_BINARY", fake.parent / "none")
    monkeypatch.setattr(sys, "argv", [str(fake)])
    assert launcher.find_installed(str(fake.parent)) is None
    monkeypatch.setattr(sys, "argv", ["elsewhere"])
    assert launcher.find_installed(str(fake.parent)) == fake


@contextlib.contextmanager
def forwarding_to(on_term):
    """The launcher's process around a child that says "up", waits, and does ``on_term`` when asked to stop."""
    code = (
        "import os, sys; from serving.supervisor import Supervisor as it; sys.exit(it(sys.argv[1:], os.environ).run())"
    )
    child = f"trap '{on_term}' TERM; echo up; while :; do sleep 0.05; done"
    command = [sys.executable, "-c", code, "sh", "-c", child]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        yield process


def test_signals_reach_the_child():
    with forwarding_to("exit 7") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 7


def test_child_does_not_outlive_a_killed_launcher():
    with forwarding_to("echo stopped; exit") as process:
        process.kill()
        assert process.stdout.readline() == "stopped\n"


def test_wheels_backends_and_environment(tmp_path):
    triton = wheel.WheelTriton()
    triton.copy_backends(tmp_path)
    assert (tmp_path / "python" / "libtriton_python.so").is_file()
    assert os.access(tmp_path / "python" / "triton_python_backend_stub", os.X_OK)
    assert (tmp_path / "onnxruntime" / "model.py").is_file()
    assert str(triton.libraries) in triton.environment()["LD_LIBRARY_PATH"]
    assert f"--backend-directory={tmp_path}" in triton.arguments(tmp_path, [])
    assert (
        triton.arguments(tmp_path, ["--backend-directory", "mine", "--backend-config=python,shm-region-prefix-name=x"])
        == []
    )


def test_no_room_for_the_backends(monkeypatch, caplog):
    """A full disk at the start: where, why, and what to do."""

    def full(triton, directory):
        raise OSError(errno.ENOSPC, "No space left on device", str(directory))

    monkeypatch.setattr(wheel.WheelTriton, "copy_backends", full)
    monkeypatch.setattr(sys, "argv", ["tritonserver"])
    assert launcher.main() == 1
    assert "can't copy Triton's backends to /tmp/cocoer-backends-" in caplog.text
    assert "No space left on device" in caplog.text
    assert "TMPDIR chooses another place" in caplog.text


def test_a_small_shared_memory_is_told(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(launcher.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(64 << 20, 0, 64 << 20))
    launcher.warn_of_small_shared_memory()
    assert "/dev/shm has only 64 MB free" in caplog.text
    assert "--shm-size=1g" in caplog.text


@pytest.mark.parametrize("release", ["24.10", "25.06", "26.02"])
def test_old_releases_are_kept_off_the_network(release, monkeypatch):
    flags.check_exposure(release, flags.secure_arguments([]))
    with pytest.raises(flags.LauncherError, match=f"Triton {release} has known .* may not listen on 0.0.0.0"):
        flags.check_exposure(release, ["--http-address=0.0.0.0", *flags.secure_arguments(["--http-address=x"])])
    monkeypatch.setenv(flags.ACCEPT_VARIABLE, "1")
    flags.check_exposure(release, ["--http-address=0.0.0.0"])


@pytest.mark.parametrize("release", ["26.03", "26.08", "27.01", ""])
def test_other_releases_may_listen(release):
    flags.check_exposure(release, ["--http-address=0.0.0.0"])


def test_the_users_own_restrictions_hold():
    given = ["--http-restricted-api=metadata:key=value", "--model-control-mode", "explicit"]
    added = flags.secure_arguments(given)
    assert not any(flag.startswith(("--http-restricted-api", "--model-control-mode")) for flag in added)
    assert any(flag.startswith("--grpc-restricted-protocol") for flag in added)


def test_no_triton_at_all(monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(flags.LauncherError, match="neither a tritonserver on PATH nor"):
        wheel.WheelTriton()
