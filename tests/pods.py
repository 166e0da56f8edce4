"""A stand-in for a cluster: runs what the chart's pods run as processes of this machine, and mounts what they mount."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.server import free_ports
from tests.conftest import PROJECT
from tests.waiting import PATIENCE, until

PORTS = {"http": "--http-port", "grpc": "--grpc-port", "metrics": "--metrics-port"}
PYTHON = {"python": sys.executable, "python3": sys.executable}
"""What the images call it."""
PRE_STOP = 0.5
"""Seconds, instead of the chart's five."""


class Pod:
    """One pod of a Deployment. What its containers mount at /dev/shm is this machine's, and so are their images' files.

    Args:
        deployment: as helm renders it.
        name: of the pod.
        claims: of volumes -> their directories.
        directory: for its log and its own volumes.
    """

    def __init__(self, deployment: Mapping[str, Any], name: str, claims: Mapping[str, Path], directory: Path) -> None:
        self.spec = deployment["spec"]["template"]["spec"]
        self.name, self.directory = name, directory / name
        self.log = self.directory / "log"
        (self.server,) = self.spec["containers"]
        numbers = free_ports(len(self.server["ports"]))
        self.ports = {port["name"]: number for port, number in zip(self.server["ports"], numbers)}
        self.process: subprocess.Popen[bytes] | None = None
        self.volumes = {}
        for volume in self.spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            self.volumes[volume["name"]] = claims[claim] if claim else self.directory / volume["name"]
            self.volumes[volume["name"]].mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"127.0.0.1:{self.ports['grpc']}"

    def initialise(self) -> int:
        """Run its first containers, one after the other; the exit code of the last one that ran."""
        for container in self.spec["initContainers"]:
            if code := self._start(container, container["command"]).wait(PATIENCE):
                return code
        return 0

    def serve(self) -> None:
        """Run its server, until it is ready."""
        ports = [f"{flag}={self.ports[name]}" for name, flag in PORTS.items()]
        # The wheel's Triton may listen on loopback alone.
        command = [word.replace("0.0.0.0", "127.0.0.1") for word in self.server["command"]]
        self.process = self._start(self.server, [*command, *ports])
        until(self.is_ready, self.log.read_text)

    def is_ready(self) -> bool:
        """What its readiness probe finds."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        probe = self.server["readinessProbe"]["httpGet"]
        url = f"http://127.0.0.1:{self.ports[probe['port']]}{probe['path']}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:
            return bool(answer.status == 200)
        return False

    def end(self) -> int:
        """As Kubernetes ends it: preStop, SIGTERM, and SIGKILL once the grace period is over; its exit code."""
        if self.process is None:
            return 0
        program, _ = self.server["lifecycle"]["preStop"]["exec"]["command"]
        subprocess.run([program, str(PRE_STOP)], check=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self.spec["terminationGracePeriodSeconds"] - PRE_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _start(self, container: Mapping[str, Any], command: list[str]) -> subprocess.Popen[bytes]:
        mounts = {mount["mountPath"]: self.volumes[mount["name"]] for mount in container["volumeMounts"]}
        environment = {**os.environ, "TMPDIR": str(mounts["/tmp"]), "COCOER_PROBE_SECONDS": "0"}
        for variable in container.get("env", []):
            value = variable.get("value", self.name)
            environment[variable["name"]] = value.replace("0.0.0.0:8003", f"127.0.0.1:{self.ports['health']}")
        words = [PYTHON.get(word) or self._mounted(word, mounts) for word in command]
        with self.log.open("ab") as log:
            return subprocess.Popen(words, cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def _mounted(self, word: str, mounts: Mapping[str, Path]) -> str:
        """A word of a command, with the directory that is mounted at the path in it."""
        option, separator, path = word.rpartition("=")
        for place, directory in mounts.items():
            if path == place or path.startswith(f"{place}/"):
                return f"{option}{separator}{directory}{path.removeprefix(place)}"
        return word
