"""The chart's gateway as the cluster would run it, as a process: its options, its probes, the file of its Secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import requests

from cocoer_client.web.keys import make_key
from serving.server import RunningServer
from tests.cluster import render, the
from tests.conftest import PROJECT, SAMPLE
from tests.gateway import Gateway, gateway
from tests.waiting import until

SECRET = "/etc/cocoer-web"
DOCKERFILE = PROJECT / "serving" / "deploy" / "Dockerfile"


def write_secret(mount: Path, name: str, content: str) -> None:
    """As the kubelet does: a new directory, which a link then leads to, from one moment to the next."""
    directory = mount / f"..{name}"
    directory.mkdir(parents=True)
    (directory / "keys.txt").write_text(content)
    (directory / "keys.txt").chmod(0o440)
    (mount / "..new").symlink_to(directory.name)
    (mount / "..new").rename(mount / "..data")
    if not (mount / "keys.txt").is_symlink():
        (mount / "keys.txt").symlink_to("..data/keys.txt")


def probe(web: Gateway, container: dict[str, Any], name: str) -> int:
    """The status that the kubelet gets."""
    get = container[f"{name}Probe"]["httpGet"]
    headers = {header["name"]: header["value"] for header in get["httpHeaders"]}
    return requests.get(f"{web.url}{get['path']}", headers=headers, timeout=60).status_code


def ask(web: Gateway, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{web.url}/v1/recognise", data=SAMPLE.read_bytes(), headers=headers, timeout=120).status_code


def test_probes_and_keys_of_the_chart(server: RunningServer, tmp_path: Path) -> None:
    deployment = the(render("web.enabled=true", "web.keys.secret=keys"), "Deployment", "cocoer-web")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    entry_point = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE.read_text(), re.MULTILINE)[-1])
    address, (_, port) = entry_point[3:5], entry_point[5:]
    assert int(port) == container["ports"][0]["containerPort"]  # here a free one
    url, *options = container["args"]
    assert url == "--url=cocoer:8001"  # here the server's
    mount = tmp_path / "mount"
    first, line = make_key("first")
    write_secret(mount, "1", line)
    log = tmp_path / "log"
    with gateway(server.url, log, *address, *(option.replace(SECRET, str(mount)) for option in options)) as web:
        until(lambda: probe(web, container, "readiness") == 200, log.read_text)
        assert probe(web, container, "liveness") == 200
        assert (ask(web, first), ask(web, "nobody's")) == (200, 401)
        # Another Secret: without a restart.
        second, line = make_key("second")
        write_secret(mount, "2", line)
        until(lambda: ask(web, second) == 200, log.read_text)
        assert ask(web, first) == 401
    assert web.process.returncode == 0, log.read_text()


def test_a_gateway_without_servers_lives_and_is_not_ready(tmp_path: Path) -> None:
    """So that it is not started anew for what another has, and gets no requests."""
    deployment = the(render("web.enabled=true", "web.withoutKeys=true"), "Deployment", "cocoer-web")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    with gateway("127.0.0.1:1", tmp_path / "log", *container["args"][1:]) as web:
        assert probe(web, container, "liveness") == 200
        assert probe(web, container, "readiness") == 503
