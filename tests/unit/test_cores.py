"""How many cores a process may use, and the threads where a repository was built for others."""

import json
import os

import pytest

from serving import cores as cores_module
from serving import threads
from serving.cores import cores

OWN_2 = "0::/kubepods/pod1/server\n"
OWN_1 = "9:name=systemd:/docker/1\n3:cpuset:/docker/1\n2:cpu,cpuacct:/docker/1\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (OWN_2, {"kubepods/pod1/server/cpu.max": "200000 100000"}, 2),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "max 100000", "kubepods/pod1/cpu.max": "250000 100000"}, 3),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "400000 100000", "kubepods/cpu.max": "50000 100000"}, 1),
        (OWN_2, {"kubepods/pod1/server/cpu.max": "6400000 100000"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        (OWN_1, {"cpu/docker/1/cpu.cfs_quota_us": "300000", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 3),
        (OWN_1, {"cpu/docker/1/cpu.cfs_quota_us": "-1", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 8),
        (OWN_1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (OWN_1, {}, 8),
        (None, {}, 8),
        ("0::/\n", {"cpu.max": "what"}, 8),
    ],
)
def test_cores_of_a_container(monkeypatch, tmp_path, own, files, expected):
    """Eight cores, of whose time a container may have a part (docker --cpus, limits.cpu)."""
    monkeypatch.setattr(cores_module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores_module, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cores() == expected


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Built for four cores, on a machine of four."""
    monkeypatch.setattr(threads, "cores", lambda: 4)
    manifest = tmp_path / "cocoer" / "1" / "build.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"cores": 4}))
    return tmp_path


def pool(count):
    return [f"--backend-config=onnxruntime,{word}" for word in ("enable-global-threadpool=1", count)]


@pytest.mark.parametrize(
    ("here", "added"),
    [(4, []), (8, pool("intra_op_thread_count=7")), (2, pool("intra_op_thread_count=1"))],
)
def test_a_repository_for_other_cores(repository, monkeypatch, caplog, here, added):
    monkeypatch.setattr(threads, "cores", lambda: here)
    assert threads.thread_arguments([f"--model-repository={repository}"]) == added
    told = (
        f"built for 4 cores, and this machine has {here}: all models share a pool of {here - 1} threads; a build with"
    )
    assert (f"{told} --cores {here}" in caplog.text) == bool(added)


def test_one_core_has_one_thread(repository, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert threads.thread_arguments(["--model-repository", str(repository)]) == pool("intra_op_thread_count=1")


def test_who_speaks_of_threads_is_heard(repository, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    for word in ("enable-global-threadpool=0", "intra_op_thread_count=3"):
        given = [f"--model-repository={repository}", "--backend-config", f"onnxruntime,{word}"]
        assert threads.thread_arguments(given) == []


@pytest.mark.parametrize("manifest", ['{"cores": null}', "{}", "[]", "{", '{"cores": "4"}'])
def test_a_repository_that_does_not_say(repository, monkeypatch, manifest):
    """One for GPUs, another's, a broken one: what a start says of it is not the threads' business."""
    monkeypatch.setattr(threads, "cores", lambda: 8)
    (repository / "cocoer" / "1" / "build.json").write_text(manifest)
    assert threads.thread_arguments([f"--model-repository={repository}"]) == []
    assert threads.thread_arguments(["--model-repository=s3://bucket/models"]) == []
