"""The chart's Envoy, as it is rendered, before two real servers: calls are spread, and not all get through."""

import contextlib
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as grpcclient
import yaml
from PIL import Image
from tritonclient.utils import InferenceServerException

from cocoer_client import CocoerClient
from serving.server import free_ports
from tests.cluster import render, the
from tests.metrics import key, scrape
from tests.waiting import PATIENCE, until

ENVOY = Path(sys.executable).parent / "envoy"
IMAGES = 24


def configuration():
    return the(render(), "ConfigMap", "cocoer-envoy")["data"]["envoy.yaml"]


def test_envoy_takes_it(tmp_path):
    (tmp_path / "envoy.yaml").write_text(configuration())
    command = [ENVOY, "--mode", "validate", "--config-path", tmp_path / "envoy.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    (tmp_path / "envoy.yaml").write_text(configuration().replace("LEAST_REQUEST", "LEAST_WORK"))
    assert subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode != 0


@pytest.fixture(scope="module")
def envoy(server, opencv_server, tmp_path_factory):
    """Its gRPC address. Changed are addresses alone: two servers that are there, and one that is not."""
    directory = tmp_path_factory.mktemp("envoy")
    grpc_port, ready_port, admin_port, nobody = free_ports(4)
    config = yaml.safe_load(configuration())
    config["admin"]["address"]["socket_address"]["port_value"] = admin_port
    for listener, port in zip(config["static_resources"]["listeners"], (grpc_port, ready_port)):
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (cluster,) = config["static_resources"]["clusters"]
    cluster["type"] = "STATIC"
    ports = [(one.grpc_port, one.http_port) for one in (server, opencv_server)] + [(nobody, nobody)]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {
            "endpoint": {
                "health_check_config": {"port_value": http},
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            }
        }
        for port, http in ports
    ]
    (directory / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [ENVOY, "--config-path", directory / "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:

        def is_ready():
            assert process.poll() is None, (directory / "log").read_text()
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"http://127.0.0.1:{ready_port}/ready", timeout=60)

        until(is_ready).close()
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_one_connection_is_served_by_all(envoy, server, opencv_server):
    """What a Service alone does not do for gRPC. The lost server costs no request."""
    servers = (server, opencv_server)
    before = [scrape(one)[key("cocoer_images_total")] for one in servers]
    with CocoerClient(envoy, timeout=300, retries=0) as client:
        for _ in range(IMAGES):
            assert client.infer(Image.new("RGB", (64, 48)), persons=[]).persons == ()
    answered = [scrape(one)[key("cocoer_images_total")] - count for one, count in zip(servers, before)]
    assert sum(answered) == IMAGES
    assert min(answered) >= 3


def test_what_changes_a_server_does_not_get_through(envoy):
    with grpcclient.InferenceServerClient(envoy) as client:
        assert client.is_server_ready()
        assert client.is_model_ready("cocoer")
        for call in (client.get_model_repository_index, client.get_inference_statistics, client.get_log_settings):
            with pytest.raises(InferenceServerException) as caught:
                call()
            assert grpc.StatusCode.UNIMPLEMENTED.name in caught.value.status()
