"""Trust: encryption with a real handshake, what is closed, what is not told."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import trustme
from tritonclient.utils import InferenceServerException

from cocoer_client import TLS, CocoerClient, ServerUnavailable
from serving.background import ServerFailed
from serving.server import TritonServer
from tests.conftest import PROJECT, SAMPLE, run_python
from tests.traffic import post
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's and a client's certificate; and an authority nobody knows."""
    directory = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    stranger.cert_pem.write_to_path(directory / "stranger.pem")
    for name, issued in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("someone@example.org")),
        ("impostor", stranger.issue_cert("someone@example.org")),
    ):
        issued.private_key_pem.write_to_path(directory / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
    return directory


@pytest.fixture(scope="module")
def mutual(repositories, certificates, tmp_path_factory):
    """A server that wants certificates, has a key for what is restricted, and restricts something of its own."""
    arguments = [
        "--http-restricted-api=statistics:reader=sesame",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={certificates}/server.pem",
        f"--grpc-server-key={certificates}/server.key",
        f"--grpc-root-cert={certificates}/ca.pem",
    ]
    log = tmp_path_factory.mktemp("mutual") / "log"
    with TritonServer(
        repositories("opencv"), log, arguments=arguments, environment={"COCOER_ADMIN_KEY": "open-sesame"}
    ) as it:
        yield it


def test_mutual_tls(mutual, certificates):
    tls = TLS(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    with CocoerClient(mutual.url, timeout=300, tls=tls) as client:
        client.check_ready()
        assert client.infer_raw(SAMPLE.read_bytes())["persons"]


def test_handshakes_that_must_fail(mutual, certificates):
    impostor = TLS(certificates / "ca.pem", certificates / "impostor.pem", certificates / "impostor.key")
    misled = TLS(certificates / "stranger.pem", certificates / "client.pem", certificates / "client.key")
    for tls in (None, TLS(certificates / "ca.pem"), impostor, misled):
        with CocoerClient(mutual.url, timeout=60, retries=0, tls=tls) as client, pytest.raises(ServerUnavailable):
            client.infer_raw(SAMPLE.read_bytes())


def test_recipe_of_the_documentation(repositories, certificates, tmp_path):
    """docs/operations.md: its certificates, its flags, its command; and a client that trusts another authority."""
    make, serve, ask = re.findall(r"```bash\n(.*?)```", (PROJECT / "docs" / "operations.md").read_text(), re.DOTALL)
    subprocess.run(["bash", "-ec", make], cwd=tmp_path, check=True, capture_output=True)
    command = serve.split()
    assert command[:3] == ["tritonserver", "--model-repository", "model_repository"]
    flags = [re.sub(r"=(?=\w+\.\w+$)", f"={tmp_path}/", flag) for flag in command[3:]]
    with TritonServer(repositories("opencv"), tmp_path / "log", arguments=flags) as server:
        url = f"localhost:{server.grpc_port}"
        python, *rest = ask.replace("localhost:8001", url).split()
        assert python == "python"
        options = ["--output-dir", tmp_path, "--json", "-"]
        good = run_python(*[str(tmp_path / part) if part == "ca.pem" else part for part in rest], *options)
        assert good.returncode == 0, good.stderr
        assert json.loads(good.stdout)["persons"]
        bad = run_python("client/infer.py", SAMPLE, "--url", url, *options, "--tls-ca", certificates / "stranger.pem")
        assert bad.returncode == 3
        (line,) = bad.stderr.splitlines()
        assert line.startswith(f"error: no secure connection to {url}: does the server use TLS")


RESTRICTED_PATHS = [
    "v2/repository/index",
    "v2/repository/models/cocoer/unload",
    "v2/repository/models/evil/load",
    "v2/systemsharedmemory/region/x/register",
    "v2/systemsharedmemory/unregister",
    "v2/cudasharedmemory/unregister",
    "v2/trace/setting",
    "v2/logging",
]


@pytest.mark.parametrize("path", RESTRICTED_PATHS)
def test_what_changes_a_running_server_is_closed(server, path):
    """Over HTTP; nobody has chosen a key."""
    assert_restricted(server, path, {})


@pytest.mark.parametrize("path", RESTRICTED_PATHS)
def test_a_key_is_wanted(mutual, path):
    for headers in ({}, {"triton-admin-key": "guess"}):
        assert_restricted(mutual, path, headers)


def assert_restricted(server, path, headers):
    status, text = post(server, path, b"{}", headers)
    assert status == 403, text
    assert "restricted" in text


def test_the_users_own_restrictions_stand_beside_ours(mutual):
    url = f"{mutual.http_url}/v2/models/cocoer/stats"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=10)
    with caught.value as refused:
        assert refused.code == 403
    with urllib.request.urlopen(urllib.request.Request(url, headers={"reader": "sesame"}), timeout=10) as answer:
        assert answer.status == 200


def test_the_key_opens(mutual):
    status, text = post(mutual, "v2/repository/index", b"{}", {"triton-admin-key": "open-sesame"})
    assert status == 200
    assert {model["name"] for model in json.loads(text)} >= {"cocoer", "fusion"}
    # Models can't be changed all the same: model control is off.
    status, text = post(mutual, "v2/repository/models/cocoer/unload", b"{}", {"triton-admin-key": "open-sesame"})
    told = {"error": "explicit model load / unload is not allowed if polling is enabled"}
    assert (status, json.loads(text)) == (503, told)
    assert mutual.is_ready()


def test_grpc_is_closed_alike(server):
    with grpcclient.InferenceServerClient(server.url) as triton:
        for call in (
            triton.get_model_repository_index,
            lambda: triton.unload_model("cocoer"),
            lambda: triton.register_system_shared_memory("x", "/cocoer", 1),
            lambda: triton.update_log_settings({"log_file": "/tmp/evil"}),
            lambda: triton.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
        ):
            with pytest.raises(InferenceServerException) as caught:
                call()
            assert "restricted" in caught.value.message()


def test_what_clients_and_balancers_need_is_open(server):
    for path in ("health/live", "health/ready", "models/cocoer/ready", "models/cocoer", "models/cocoer/stats"):
        with urllib.request.urlopen(f"{server.http_url}/v2/{path}", timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.needs("own_server")
def test_only_this_machine_can_connect(server):
    """Nothing listens on another address than 127.0.0.1."""
    others = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {
        "127.0.0.1"
    }
    for address in others or {"127.0.0.2"}:
        for port in (server.grpc_port, server.http_port, server.metrics_port):
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize("flag", ["--http-address", "--grpc-address", "--metrics-address"])
def test_a_vulnerable_triton_stays_at_home(repositories, tmp_path, flag):
    server = TritonServer(repositories("opencv"), tmp_path / "log", arguments=[f"{flag}=0.0.0.0"])
    with pytest.raises(ServerFailed, match="ended with code 1"), server:
        pass
    log = (tmp_path / "log").read_text()
    assert "Triton 24.10 has known vulnerabilities (CVE-2025-23310, " in log
    assert "so it may not listen on 0.0.0.0. Use NVIDIA's container 26.03 or later" in log


def test_errors_tell_nothing_of_the_server(server, client, sample_bytes):
    """No path, no trace, no name of a region: of whatever goes wrong behind ``cocoer`` or at a model behind it."""
    tensor = grpcclient.InferInput("image", [1, 224, 224, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 224, 224, 3), dtype=np.uint8))
    empty = grpcclient.InferInput("image", [0, 224, 224, 3], "UINT8")
    empty.set_data_from_numpy(np.zeros((0, 224, 224, 3), dtype=np.uint8))
    with grpcclient.InferenceServerClient(server.url) as triton:
        for model, inputs in (("fusion", [tensor]), ("vi_head", [empty]), ("nonsense", [tensor]), ("recognition", [])):
            with pytest.raises(InferenceServerException) as caught:
                triton.infer(model, inputs)
            for secret in ("/tmp", "Traceback", ".py", "shm", str(SAMPLE.parent.parent)):
                assert secret not in caught.value.message(), (model, secret, caught.value.message())


@pytest.mark.needs("checkout")
def test_nothing_is_fetched_while_serving(repositories, tmp_path):
    """Start and answer in a network namespace that has nothing but loopback."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network namespace (unshare -rn)")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from cocoer_client import CocoerClient\n"
        "from serving.server import TritonServer\n"
        "with TritonServer(Path(sys.argv[1]), Path(sys.argv[2])) as server, CocoerClient(server.url) as client:\n"
        "    print(len(client.infer_raw(Path(sys.argv[3]).read_bytes())['persons']))\n"
    )
    namespace = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    run = subprocess.run(
        [*namespace, sys.executable, "-c", script, repositories("opencv"), tmp_path / "log", SAMPLE],
        cwd=SAMPLE.parent.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.stdout.strip() == "1", run.stderr
