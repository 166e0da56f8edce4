"""The chart's life, by its rendered commands: install, upgrade, scale-up meanwhile, failed build, rollback, prune.

The cluster is a stand-in (``tests.pods``); builds and servers are real. Requests come all the time, and none is lost.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cocoer_client import CocoerClient
from serving.deploy import engines
from tests.cluster import render, the
from tests.pods import Pod

OPTIONS = "engines.arguments={--backend,onnxruntime,--detectors,%s}"
FIRST = ("gpu.count=0", OPTIONS % "opencv")
SECOND = ("gpu.count=0", OPTIONS % "scrfd")
BROKEN = ("gpu.count=0", OPTIONS % r"scrfd,--tolerance,fusion=1e-12")

LEFT = "context_gather"


class Traffic:
    """Asks a pod that is ready, over and over, as a balancer would, and tries nothing twice.

    Args:
        image: what to send.
    """

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.ready: list[Pod] = []
        self.answers: dict[str, int] = {}
        """Detector, which tells the builds apart -> answers with it."""
        self.lost: list[str] = []
        self._clients: dict[str, CocoerClient] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for client in self._clients.values():
            client.close()

    def send_to(self, *pods: Pod) -> None:
        """Who is ready, from now on; returns once each has been asked."""
        self.ready = list(pods)
        answered = sum(self.answers.values())
        while sum(self.answers.values()) < answered + 2 * len(pods) and not self.lost:
            time.sleep(0.05)

    def _run(self) -> None:
        turn = 0
        while not self._over.wait(0.2):
            if not self.ready:
                continue
            turn += 1
            url = self.ready[turn % len(self.ready)].url
            try:
                client = self._clients.setdefault(url, CocoerClient(url, timeout=120, retries=0))
                answer = client.infer_raw(self.image, [])
            except Exception as error:  # each is a request lost
                self.lost.append(f"{type(error).__name__}: {error}")
            else:
                detector = answer["model"]["detector"]
                self.answers[detector] = self.answers.get(detector, 0) + 1


class Cluster:
    """Its pods, and its claims.

    Args:
        directory: for all of it.
        checkpoints: what the claim with the weights holds.
    """

    def __init__(self, directory: Path, checkpoints: Path) -> None:
        self.directory = directory
        self.claims = {"cocoer-models": directory / "claim", "cocoer-checkpoints": checkpoints}
        self.pods: list[Pod] = []

    @property
    def engines(self) -> Path:
        return self.claims["cocoer-models"]

    def pod(self, settings: tuple[str, ...]) -> Pod:
        """A new one of the release with these settings; nothing of it runs yet."""
        deployment = the(render(*settings), "Deployment", "cocoer")
        self.pods.append(Pod(deployment, f"pod-{len(self.pods)}", self.claims, self.directory))
        return self.pods[-1]

    def build(self, settings: tuple[str, ...]) -> Path:
        """Where the engines of these settings lie."""
        (name,) = [word for word in self.pod(settings).spec["initContainers"][0]["command"] if "--name=" in word]
        return self.engines / name.partition("=")[2]

    def close(self) -> None:
        for pod in self.pods:
            if pod.process is not None and pod.process.poll() is None:
                pod.process.kill()
                pod.process.wait()


@pytest.fixture
def cluster(tmp_path: Path, tiny_checkpoints: Path, repositories: Callable[[str], Path]) -> Iterator[Cluster]:
    """Builds begin with what other tests have built; the second one has a model left to build, which takes a second."""
    running = Cluster(tmp_path, tiny_checkpoints)
    for settings, source in ((FIRST, "opencv"), (SECOND, "scrfd"), (BROKEN, "scrfd")):
        left = {LEFT} if settings is SECOND else set()
        target = running.build(settings) / engines.REPOSITORY
        shutil.copytree(repositories(source), target, ignore=lambda _directory, names, left=left: left & set(names))
    yield running
    running.close()


def content(build: Path) -> dict[str, tuple[int, int]]:
    """Files of a build, by their inode and time."""
    files = [path for path in (build / engines.REPOSITORY).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_the_life_of_a_release(cluster: Cluster, sample_bytes: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    first_build, second_build, broken_build = map(cluster.build, (FIRST, SECOND, BROKEN))
    assert len({first_build, second_build, broken_build}) == 3

    # helm install: the first pod builds, and serves.
    first = cluster.pod(FIRST)
    assert first.initialise() == 0, first.log.read_text()
    first.serve()
    before = content(first_build)

    with Traffic(sample_bytes) as traffic:
        traffic.send_to(first)

        # helm upgrade, with other engines: the new pod builds beside the old one. Meanwhile the release is scaled: a
        # pod of the new revision waits for the build, one of the old revision finds its own.
        second, more, old = cluster.pod(SECOND), cluster.pod(SECOND), cluster.pod(FIRST)
        codes: list[int] = []
        threads = [threading.Thread(target=lambda pod=pod: codes.append(pod.initialise())) for pod in (second, more)]
        for thread in threads:
            thread.start()
        assert old.initialise() == 0
        assert "building" not in old.log.read_text()
        for thread in threads:
            thread.join()
        assert codes == [0, 0], second.log.read_text() + more.log.read_text()
        logs = [pod.log.read_text() for pod in (second, more)]
        assert sorted("building the engines" in log for log in logs) == [False, True]
        assert any(f"waiting for the engines {second_build.name}, which pod-" in log for log in logs)
        assert (traffic.lost, set(traffic.answers)) == ([], {"opencv-haar"})
        second.serve()
        traffic.send_to(second, first)
        traffic.send_to(second)
        assert first.end() == 0

        # An upgrade whose engines are too far from the reference: its pod never serves, the others go on.
        broken = cluster.pod(BROKEN)
        assert broken.initialise() == 1
        assert "were not built (exit code 1); other builds are as they were" in broken.log.read_text()
        assert content(first_build) == before
        traffic.send_to(second)

        # helm rollback, to the first revision: its engines are there.
        again = cluster.pod(FIRST)
        assert again.initialise() == 0
        assert "building" not in again.log.read_text()
        again.serve()
        traffic.send_to(again)
        assert second.end() == 0

        # Two builds are kept, the new one and the one that is served: not the second, nor what the broken one has left.
        monkeypatch.setattr(engines, "BUILD_COMMAND", ("-c", STAND_IN))
        assert engines.ensure(cluster.engines, "third", [], keep=2, deadline=60) == 0
        assert {path.name for path in cluster.engines.iterdir()} == {first_build.name, "third"}
        traffic.send_to(again)
    assert traffic.lost == []
    assert set(traffic.answers) == {"opencv-haar", "scrfd (synthetic)"}
    assert again.end() == 0


STAND_IN = """
import pathlib, sys
(repository,) = [one.partition("=")[2] for one in sys.argv if one.startswith("--repository=")]
place = pathlib.Path(repository) / "cocoer" / "1"
place.mkdir(parents=True)
(place / "build.json").write_text("{}")
"""
"""A build of nothing, in a moment."""
