"""The chart's Envoy, as it is rendered, before two real servers: calls are spread, and not all get through."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as grpcclient
import yaml
from google.protobuf import descriptor_pb2
from PIL import Image
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from cocoer_bls.options import DEFAULT_LIMITS
from cocoer_client import CocoerClient, InvalidRequest, ServerBusy, ServerUnavailable
from serving.server import free_ports
from tests.cluster import CHART, render, the
from tests.metrics import key, scrape
from tests.waiting import PATIENCE, until

ENVOY = Path(sys.executable).parent / "envoy"
IMAGES = 24
INFER = "/inference.GRPCInferenceService/ModelInfer"
MAX_REQUEST = yaml.safe_load((CHART / "values.yaml").read_text())["envoy"]["maxRequestBytes"]


def configuration(*settings):
    return the(render(*settings), "ConfigMap", "cocoer-envoy")["data"]["envoy.yaml"]


def test_envoy_takes_it(tmp_path):
    (tmp_path / "envoy.yaml").write_text(configuration())
    command = [ENVOY, "--mode", "validate", "--config-path", tmp_path / "envoy.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert "Deprecated" not in result.stderr
    (tmp_path / "envoy.yaml").write_text(configuration().replace("LEAST_REQUEST", "LEAST_WORK"))
    assert subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode != 0


@dataclass(frozen=True)
class Running:
    """An Envoy that runs."""

    url: str
    admin_port: int
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def running_envoy(
    directory: Path, backends: Sequence[tuple[int, int]], *settings: str, health_checks: bool = True
) -> Iterator[Running]:
    """An Envoy with the chart's configuration and arguments; changed are addresses alone.

    Args:
        directory: for its configuration and its log.
        backends: gRPC and HTTP port of each server.
        settings: of the chart.
        health_checks: whether the servers have what is asked for.
    """
    grpc_port, ready_port, admin_port = free_ports(3)
    config = yaml.safe_load(configuration(*settings))
    config["admin"]["address"]["socket_address"]["port_value"] = admin_port
    for listener, port in zip(config["static_resources"]["listeners"], (grpc_port, ready_port)):
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (cluster,) = config["static_resources"]["clusters"]
    del cluster["cluster_type"]
    cluster["type"] = "STATIC"
    if not health_checks:
        del cluster["health_checks"]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {
            "endpoint": {
                "health_check_config": {"port_value": http},
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            }
        }
        for port, http in backends
    ]
    (directory / "envoy.yaml").write_text(yaml.safe_dump(config))
    (container,) = the(render(), "Deployment", "cocoer-envoy")["spec"]["template"]["spec"]["containers"]
    arguments = [str(directory / "envoy.yaml") if word.endswith(".yaml") else word for word in container["args"]]
    command = [ENVOY, *arguments, "--concurrency", "1", "--use-dynamic-base-id"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:

        def is_ready():
            assert process.poll() is None, (directory / "log").read_text()
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"http://127.0.0.1:{ready_port}/ready", timeout=60)

        until(is_ready).close()
        yield Running(f"127.0.0.1:{grpc_port}", admin_port, process)
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def envoy(server, opencv_server, tmp_path_factory):
    """Its gRPC address: two servers that are there, and one that is not."""
    (nobody,) = free_ports(1)
    ports = [(one.grpc_port, one.http_port) for one in (server, opencv_server)] + [(nobody, nobody)]
    with running_envoy(tmp_path_factory.mktemp("envoy"), ports) as running:
        yield running.url


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


class Caller:
    """Sends bytes as they are."""

    def __init__(self, url: str) -> None:
        self.channel = grpc.insecure_channel(url, options=[("grpc.max_send_message_length", -1)])

    def infer(self, message: bytes, **options: object) -> Future[tuple[str, str]]:
        """Status and text of the answer."""
        told: Future[tuple[str, str]] = Future()
        call = self.channel.unary_unary(INFER).future(message, timeout=PATIENCE, **options)
        call.add_done_callback(lambda done: told.set_result((done.code().name, done.details())))
        return told

    def status(self, message: bytes, **options: object) -> tuple[str, str]:
        return self.infer(message, **options).result(PATIENCE)


def request(model: str, size: int = 0) -> bytes:
    """A request to a model, with an image of so many bytes that is none."""
    image = size.to_bytes(4, "little") + bytes(size)
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="IMAGE", datatype="BYTES", shape=[1, 1])
    message = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[image])
    return message.SerializeToString()


def test_cocoer_alone_can_be_asked(envoy):
    """By the name that Triton reads: of two, the last one. What can't be read is not passed on."""
    caller = Caller(envoy)
    code, text = caller.status(request("cocoer"))
    assert (code, "empty" in text) == ("INVALID_ARGUMENT", True), text
    for message in (
        request("fusion"),
        request("person_detector"),
        request(""),
        b"",
        b"\xff\xff\xff",
        request("cocoer") + request("fusion"),
    ):
        assert caller.status(message) == ("PERMISSION_DENIED", "RBAC: access denied"), message[:20]
    code, text = caller.status(request("fusion") + request("cocoer"))
    assert code == "INVALID_ARGUMENT", text
    assert "RBAC" not in text
    code, text = caller.status(request("fusion", 5000), compression=grpc.Compression.Gzip)
    assert (code, "Unsupported gRPC frame" in text) == ("INVALID_ARGUMENT", True)


def test_the_name_is_where_the_protocol_has_it():
    """Envoy's two messages are those of Triton's client, as far as they go."""
    listener = yaml.safe_load(configuration())["static_resources"]["listeners"][0]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    told = filters[0]["typed_config"]["descriptor_set"]["inline_bytes"]
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(told)).file
    theirs = service_pb2.DESCRIPTOR
    assert file.package == theirs.package
    (method,) = file.service[0].method
    their_method = theirs.services_by_name[file.service[0].name].methods_by_name[method.name]
    assert method.input_type == f".{their_method.input_type.full_name}"
    assert method.output_type == f".{their_method.output_type.full_name}"
    for field in file.message_type[0].field:
        their_field = their_method.input_type.fields_by_name[field.name]
        assert (field.number, field.type) == (their_field.number, their_field.type)


def test_as_large_as_a_file_may_be_and_not_much_larger(envoy):
    caller = Caller(envoy)
    code, text = caller.status(request("cocoer", DEFAULT_LIMITS.decode.max_bytes))
    assert (code, "not an image" in text) == ("INVALID_ARGUMENT", True), text
    code, text = caller.status(request("cocoer", MAX_REQUEST))
    assert (code, "buffer limits" in text) == ("FAILED_PRECONDITION", True), text


def test_an_envoy_without_servers_is_no_missing_server(tmp_path):
    """As while the only one starts anew: none in its list, or one that can't be reached. It passes, and is retried."""
    (nobody,) = free_ports(1)
    for backends, told in ([], "no healthy upstream"), ([(nobody, nobody)], "upstream connect error"):
        with running_envoy(tmp_path, backends, health_checks=False) as envoy:
            with CocoerClient(envoy.url, retries=0) as client:
                with pytest.raises(ServerBusy, match=f"is busy or restarting: {told}"):
                    client.infer(b"x")
                with pytest.raises(ServerBusy, match=told):
                    client.check_ready()
            with CocoerClient(envoy.url, timeout=5) as patient, pytest.raises(ServerBusy):
                patient.infer(b"x")
            assert patient.reached


def test_what_else_answers_is_told_from_a_missing_server(envoy, server):
    address = f"{server.host}:{server.http_port}"
    with CocoerClient(address, retries=0) as client, pytest.raises(ServerUnavailable, match="is it the gRPC port"):
        client.infer(b"x")
    with CocoerClient(envoy) as client, pytest.raises(InvalidRequest, match="buffer limit"):
        client.infer(bytes(MAX_REQUEST))


@contextlib.contextmanager
def slow_server(answering: threading.Event) -> Iterator[int]:
    """A gRPC server that answers everything, once the event is set; its port."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(lambda _message, _context: answering.wait(PATIENCE) and b"")

    with ThreadPoolExecutor(32) as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((Handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            answering.set()
            server.stop(None).wait(PATIENCE)


def test_what_is_on_its_way_is_answered_before_envoy_ends(tmp_path):
    """As Kubernetes does it: preStop, whose pause is shorter here, and then SIGTERM."""
    (container,) = the(render(), "Deployment", "cocoer-envoy")["spec"]["template"]["spec"]["containers"]
    bash, flag, script = container["lifecycle"]["preStop"]["exec"]["command"]
    assert script.count("sleep 5\n") == script.count("/9901") == 1
    answering = threading.Event()
    with slow_server(answering) as port, running_envoy(tmp_path, [(port, 0)], health_checks=False) as envoy:
        told = Caller(envoy.url).infer(request("cocoer"))
        until(lambda: ": 1\n" in active_requests(envoy))
        short = script.replace("sleep 5\n", "sleep 0.5\n").replace("/9901", f"/{envoy.admin_port}")
        stopping = subprocess.Popen([bash, flag, short])
        with pytest.raises(subprocess.TimeoutExpired):
            stopping.wait(2)  # it waits for the answer
        assert not told.done()
        answering.set()
        assert stopping.wait(PATIENCE) == 0
        envoy.process.terminate()
        assert envoy.process.wait(PATIENCE) == 0
        assert told.result(PATIENCE) == ("OK", "")


def active_requests(envoy: Running) -> str:
    url = f"http://127.0.0.1:{envoy.admin_port}/stats?filter=http.cocoer.downstream_rq_active"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_more_than_memory_holds_is_turned_away(tmp_path):
    """Forty of the largest requests at once, whose bodies are kept until their server answers."""
    answering = threading.Event()
    with (
        slow_server(answering) as port,
        running_envoy(tmp_path, [(port, 0)], "envoy.resources.limits.memory=600Mi", health_checks=False) as envoy,
    ):
        caller, message = Caller(envoy.url), request("cocoer", 20 << 20)
        told = [caller.infer(message) for _ in range(40)]
        until(lambda: [one.done() for one in told].count(True) >= 10)
        answering.set()
        codes = {one.result(PATIENCE)[0] for one in told}
        assert codes - {"OK"}
        assert codes <= {"OK", "UNAVAILABLE", "INTERNAL"}
        until(lambda: caller.status(request("cocoer"))[0] == "OK")
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{envoy.process.pid}/status").read_text())
        print(f"{int(peak) >> 10} MB at most, {sorted(codes)}")
        assert int(peak) < 600 << 10
