"""The tritonserver command, with a small program in Triton's place."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving import flags, launcher, wheel
from serving.cores import cores
from serving.threads import WORDS_VARIABLE, thread_environment
from tests.conftest import PROJECT


def program(path, like):
    """A copy of a small ELF binary of this machine, under another name."""
    source = shutil.which(like)
    assert source
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(source).resolve(), path)
    return path


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def launch(binary, *arguments, **environment):
    """The launcher with this tritonserver on PATH; it ends by itself."""
    environment = {**os.environ, "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}", **environment}
    command = [sys.executable, "-m", "serving.launcher", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def no_container(monkeypatch, tmp_path):
    monkeypatch.setattr(launcher, "CONTAINER_BINARY", tmp_path / "none")


def test_installed_triton_gets_every_flag(tmp_path):
    echo = program(tmp_path / "tritonserver", "echo")
    result = launch(echo, "--model-repository", "x", "--http-address=127.0.0.2")
    *arguments, http, grpc = result.stdout.split()
    assert arguments == [
        "--model-repository",
        "x",
        "--http-address=127.0.0.2",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--model-control-mode=none",
        "--exit-on-error=true",
        "--strict-readiness=true",
        "--exit-timeout-secs=60",
    ]
    restricted = "shared-memory,model-repository,trace,logging:triton-admin-key="
    assert http.startswith(f"--http-restricted-api={restricted}")
    assert grpc.startswith(f"--grpc-restricted-protocol={restricted}")
    assert len(http.rpartition("=")[2]) > 40
    assert result.returncode == 0


def test_threads_for_the_cores_of_this_machine(tmp_path):
    """The repository was built for others: Triton's backend is told on the command line, and so is the stand-in."""
    manifest = tmp_path / "models" / "cocoer" / "1" / "build.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"cores": 4096}))
    echo = program(tmp_path / "bin" / "tritonserver", "echo")
    result = launch(echo, f"--model-repository={manifest.parents[2]}")
    words = {"enable-global-threadpool": "1", "intra_op_thread_count": str(max(1, cores() - 1))}
    assert result.stdout.split()[-2:] == [f"--backend-config=onnxruntime,{key}={text}" for key, text in words.items()]
    assert "built for 4096 cores" in result.stderr
    environment = thread_environment(result.stdout.split())
    assert json.loads(environment[WORDS_VARIABLE]) == words


def test_the_servers_exit_code_comes_back(tmp_path):
    assert launch(program(tmp_path / "tritonserver", "ls"), "--model-repository", "x").returncode == 2  # no such option


PYENV_SHIM = """#!/usr/bin/env bash
set -e
program="${0##*/}"
exec "/root/.pyenv/libexec/pyenv" exec "$program" "$@"
"""
CONSOLE_SCRIPT = """#!/other/checkout/.venv/bin/python
import sys
from serving.launcher import main
if __name__ == '__main__':
    sys.exit(main())
"""


def no_triton(path):
    """What lies where PATH leads to, and is not Triton."""
    return {
        "a shim of pyenv": lambda: script(path, PYENV_SHIM),
        "another checkout's command": lambda: script(path, CONSOLE_SCRIPT),
        "a link to it": lambda: path.symlink_to(
            script(path.parent.parent / "checkout/bin/tritonserver", CONSOLE_SCRIPT)
        ),
        "this environment's command": lambda: path.symlink_to(Path(sys.executable).parent / "tritonserver"),
        "a link to a manager's one binary": lambda: path.symlink_to(program(path.parent.parent / "bin/mise", "true")),
        "a directory": path.mkdir,
        "not executable": lambda: program(path, "true").chmod(0o644),
        "empty": lambda: script(path, ""),
        "a broken link": lambda: path.symlink_to("nowhere"),
    }


@pytest.mark.parametrize("kind", no_triton(Path()))
def test_what_is_called_tritonserver_and_is_not(kind, tmp_path, no_container):
    """It is passed over, and the next one on PATH is found."""
    first = tmp_path / "first" / "tritonserver"
    first.parent.mkdir()
    no_triton(first)[kind]()
    assert launcher.find_installed(str(first.parent)) is None
    real = program(tmp_path / "second" / "tritonserver", "true")
    assert launcher.find_installed(os.pathsep.join(["", str(first.parent), str(real.parent)])) == real


def test_a_link_to_triton_is_triton(tmp_path, no_container):
    link = tmp_path / "bin" / "tritonserver"
    link.parent.mkdir()
    link.symlink_to(program(tmp_path / "opt" / "tritonserver-2.60", "true"))
    assert launcher.find_installed(str(link.parent)) == link


def test_the_containers_comes_first(tmp_path, monkeypatch):
    container = program(tmp_path / "opt" / "tritonserver", "true")
    monkeypatch.setattr(launcher, "CONTAINER_BINARY", container)
    other = program(tmp_path / "bin" / "tritonserver", "true")
    assert launcher.find_installed(str(other.parent)) == container


def test_a_launcher_that_is_started_as_triton_says_so(tmp_path):
    """Whatever leads back in the end: one launcher more, and an error."""
    code = (
        "import sys; from pathlib import Path; from serving import launcher; "
        "launcher.is_triton = Path.is_file; "
        f"launcher.CONTAINER_BINARY = Path({str(tmp_path / 'tritonserver')!r}); sys.exit(launcher.main())"
    )
    back = script(tmp_path / "tritonserver", f'#!/bin/sh\necho started\nexec {sys.executable} -c "{code}"\n')
    result = subprocess.run([back], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert result.stdout == "started\nstarted\n"
    assert f"tritonserver: {back} was started as Triton and led back to CocoER's own" in result.stderr


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
        assert process.wait(timeout=300) == 7


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


@pytest.mark.parametrize("release", ["26.03", "26.08", "27.01"])
def test_other_releases_may_listen(release):
    flags.check_exposure(release, ["--http-address=0.0.0.0", "--allow-sagemaker=true"])


@pytest.mark.parametrize("release", ["", "unknown"])
def test_what_is_not_known_is_kept_off_the_network(release, monkeypatch):
    flags.check_exposure(release, flags.secure_arguments([]))
    with pytest.raises(
        flags.LauncherError, match=r"NVIDIA_TRITON_SERVER_VERSION does not tell the release .* 0\.0\.0\.0"
    ):
        flags.check_exposure(release, ["--grpc-address", "0.0.0.0", *flags.secure_arguments(["--grpc-address=x"])])
    monkeypatch.setenv(flags.ACCEPT_VARIABLE, "1")
    flags.check_exposure(release, ["--grpc-address", "0.0.0.0"])


@pytest.mark.parametrize("flag", ["--allow-sagemaker=true", "--allow-vertex-ai=1", "--allow-vertex-ai=True"])
def test_clouds_endpoints_are_on_every_address(flag, monkeypatch):
    loopback = flags.secure_arguments([])
    with pytest.raises(flags.LauncherError, match="may not listen on 0.0.0.0"):
        flags.check_exposure("24.10", [*loopback, flag])
    flags.check_exposure("24.10", [*loopback, flag.partition("=")[0] + "=false"])
    monkeypatch.setenv("AIP_MODE", "PREDICTION")
    with pytest.raises(flags.LauncherError, match="may not listen on 0.0.0.0"):
        flags.check_exposure("24.10", loopback)
    flags.check_exposure("24.10", [*loopback, "--allow-vertex-ai=false"])


def test_the_users_own_restrictions_hold_beside_the_defaults():
    """Triton refuses to have a protocol in two groups."""
    given = ["--http-restricted-api=metadata,trace:key=value", "--http-restricted-api", "health:key=value"]
    added = flags.secure_arguments([*given, "--model-control-mode", "explicit"])
    assert not any(flag.startswith("--model-control-mode") for flag in added)
    http, grpc = (next(flag for flag in added if flag.startswith(name)) for name in flags.RESTRICTION_FLAGS)
    assert http.startswith("--http-restricted-api=shared-memory,model-repository,logging:triton-admin-key=")
    assert grpc.startswith("--grpc-restricted-protocol=shared-memory,model-repository,trace,logging:triton-admin-key=")
    everything = "--http-restricted-api=shared-memory,model-repository,trace,logging:key=value"
    assert not any(flag.startswith("--http-restricted-api") for flag in flags.secure_arguments([everything]))


def test_no_triton_at_all(monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(flags.LauncherError, match="neither a tritonserver on PATH nor"):
        wheel.WheelTriton()
