"""The images and the compose file: linted, and true to what the project has."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import compose_spec
import pytest
import yaml

from cocoer_client.web.app import create_app
from cocoer_client.web.arguments import parse_args as parse_web_args
from cocoer_client.web.arguments import settings_of
from cocoer_client.web.log import LogOptions
from cocoer_client.web.serve import Service
from export.arguments import parse_args
from serving.flags import FIXED_RELEASE, drain_of
from serving.gateway import EXIT_TIMEOUT
from tests.asgi import asking
from tests.conftest import PROJECT

DOCKERFILE = PROJECT / "serving" / "deploy" / "Dockerfile"
TEXT = DOCKERFILE.read_text()
COMPOSE = yaml.safe_load((PROJECT / "serving" / "deploy" / "compose.yaml").read_text())


def hadolint(text):
    program = Path(sys.executable).parent / "hadolint"
    return subprocess.run([program, "--no-color", "-"], input=text, capture_output=True, text=True, check=False)


def test_hadolint():
    result = hadolint(TEXT)
    assert (result.returncode, result.stdout) == (0, "")
    assert "DL3007" in hadolint(TEXT.replace("FROM ${TRITON}", "FROM triton:latest")).stdout  # it can fail


def test_what_is_copied_is_there():
    ignored = (PROJECT / "serving" / "deploy" / "Dockerfile.dockerignore").read_text().split()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        *sources, _target = line.split()
        for source in sources:
            assert (PROJECT / source).exists(), source
            assert any(Path(source).match(pattern) or source.startswith(pattern) for pattern in allowed), source


def test_the_bindings_are_of_the_images_tensorrt():
    """TensorRT of NVIDIA's container 26.08, and the lock file."""
    assert re.search(r"^ARG TRITON=\S+:26\.08-py3$", TEXT, re.MULTILINE)
    assert "tensorrt-cu13-bindings==11.2.1." in (PROJECT / "requirements-tensorrt.lock").read_text()
    assert FIXED_RELEASE <= (26, 8)


def test_packages_have_hashes():
    installs = re.findall(r"pip install ((?:\\\n|[^\n&])+)", TEXT)
    with_hashes = [install for install in installs if "--require-hashes" in install]
    assert len(with_hashes) == 5
    assert "pip uninstall --yes nvidia-pytriton" in TEXT  # the old Triton of the wheel is in no image
    (own,) = set(installs) - set(with_hashes)
    assert own.split()[:3] == ["--no-deps", "--no-build-isolation", "./client"]  # nothing of it is fetched
    base = (PROJECT / "requirements.lock").read_text()
    for kind in ("serve", "web"):
        locked = (PROJECT / f"requirements-{kind}.lock").read_text()
        for requirement in re.findall(r"^\S+==\S+", locked, re.MULTILINE):
            assert f"\n{requirement} " in base  # what the tests ran with


def test_the_gateways_image_has_what_its_extra_asks_for():
    """And what the client itself asks for; OpenCV is there for its style of drawing."""
    project = (PROJECT / "client" / "pyproject.toml").read_text()
    lists = [
        re.search(rf"^{name} = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL) for name in ("dependencies", "web")
    ]
    asked = {name for found in lists if found for name in re.findall(r'^ +"([\w-]+)', found[1], re.MULTILINE)}
    assert {"fastapi", "uvicorn", "tritonclient"} <= asked
    given = set(re.findall(r"^([\w-]+)(?:\[\w+\])?==", (PROJECT / "requirements-web.in").read_text(), re.MULTILINE))
    assert given == asked | {"opencv-python-headless", "setuptools"}


def entry_points():
    return [
        json.loads(text.replace("\\\n", ""))
        for text in re.findall(r"^ENTRYPOINT (\[(?:\\\n|[^\n])+\])", TEXT, re.MULTILINE)
    ]


def test_commands_are_those_of_the_project():
    engines, serve, web = entry_points()
    (command,) = [json.loads(text) for text in re.findall(r"^CMD (\[.+\])$", TEXT, re.MULTILINE)]
    args = parse_args([*engines[2:], *command])
    assert (args.backend, args.precision, str(args.repository)) == ("tensorrt", "fp16", "/models/model_repository")
    assert (PROJECT / engines[1]).is_file()
    assert serve[:3] == ["python3", "-m", "serving.launcher"]
    drain = drain_of(serve)
    assert drain.http == ("127.0.0.1", 8000)
    assert web[:3] == ["python", "-m", "cocoer_client.web.command"]
    args = parse_web_args([*web[3:], "--without-keys"])
    assert (args.host, args.port) == ("0.0.0.0", 8080)
    assert re.findall(r"^EXPOSE 8080$", TEXT, re.MULTILINE)
    # Neither root at the end, nor the shell form, which would keep SIGTERM from the server.
    stages = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[-3:]
    assert [stage.split()[2] for stage in stages] == ["engines", "serve", "web"]
    assert all("USER 65532:65532" in stage.split("ENTRYPOINT")[0] for stage in stages)


def lay_out(stage, target):
    """What the Dockerfile copies in one of its stages, and nothing else, copied there."""
    (text,) = re.findall(rf"^FROM \S+ AS {stage}\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, destination = line.split()
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *sources],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, tracked.stdout.split("\0")):
            (source,) = (source for source in sources if Path(name).is_relative_to(source))
            inside = Path(name).relative_to(source) if (PROJECT / source).is_dir() else Path(Path(name).name)
            (target / destination / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, target / destination / inside)


def isolated(directory, *arguments, path=(), **environment):
    """Python without the environment's .pth files: the checkout's editable install can't help."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )


def test_what_is_copied_builds_engines(tmp_path):
    """In the layout of the image, with packages and without the checkout."""
    lay_out("engines", tmp_path)
    (declared,) = re.findall(r"PYTHONPATH=(\S+)", TEXT)
    path = [tmp_path / Path(part).relative_to("/opt/cocoer") for part in declared.split(":")]
    packages = Path(sysconfig.get_path("purelib"))
    command = entry_points()[0][1]
    result = isolated(tmp_path, command, "--help", path=[*path, packages])
    assert result.returncode == 0, result.stderr
    assert "--backend" in result.stdout
    # What the chart's servers run before they serve calls it, from here.
    arguments = [
        "serving/deploy/engines.py",
        f"--engines={tmp_path / 'engines'}",
        "--name=one",
        "--",
        "--precision=half",
    ]
    refused = isolated(tmp_path, *arguments, path=[*path, packages])
    assert refused.returncode == 2
    assert "argument --precision: invalid choice: 'half'" in refused.stderr
    # Each of what is copied is needed, and the path too.
    alone = isolated(tmp_path, command, "--help", path=[packages])
    assert "No module named 'cocoer'" in alone.stderr
    (tmp_path / "cocoer_bls").rename(tmp_path / "elsewhere")
    assert "No module named 'cocoer_bls'" in isolated(tmp_path, command, "--help", path=[*path, packages]).stderr


def test_what_is_copied_serves(tmp_path):
    """In the layout of the image, with no package at all, and a program in Triton's place that says what it gets."""
    lay_out("serve", tmp_path / "cocoer")
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    shutil.copy(Path(shutil.which("echo") or "/bin/echo").resolve(), binary)
    python, *arguments = entry_points()[1]
    assert python == "python3"
    search_path = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
    result = isolated(tmp_path / "cocoer", *arguments, PATH=search_path, NVIDIA_TRITON_SERVER_VERSION="26.08")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "--model-repository=/models/model_repository --http-address=0.0.0.0 --grpc-address=0.0.0.0 "
    )


def test_what_is_copied_is_a_gateway(tmp_path):
    """In the layout of the image, with packages and without the checkout: the page's files, too."""
    lay_out("web", tmp_path)
    assert (tmp_path / "client" / "pyproject.toml").is_file()
    path = [tmp_path / "client", Path(sysconfig.get_path("purelib"))]
    arguments = entry_points()[2][1:]
    result = isolated(tmp_path, *arguments, "--help", path=path)
    assert result.returncode == 0, result.stderr
    assert "--without-keys" in result.stdout
    assert (tmp_path / "client" / "cocoer_client" / "web" / "page" / "index.html").is_file()
    # Started with no more than the image says, the program refuses: nobody is let in by mistake.
    refused = isolated(tmp_path, *arguments, path=path)
    assert refused.returncode == 2
    assert "--keys" in refused.stderr
    alone = isolated(tmp_path, *arguments, "--help", path=path[1:])
    assert "No module named 'cocoer_client'" in alone.stderr


def test_compose_file():
    """By the rules of the Compose specification; the parser can fail."""
    text = (PROJECT / "serving" / "deploy" / "compose.yaml").read_text()
    parsed = compose_spec.PyCompose.from_yaml(text)
    assert set(parsed.services or ()) == {"engines", "server", "web", "prometheus", "grafana"}
    for old, new in (("shm_size: 1g", "shm_size: [1]"), ("cap_drop:", "cap_dropped:")):
        assert old in text
        with pytest.raises(ValueError, match="shm_size|cap_dropped"):
            compose_spec.PyCompose.from_yaml(text.replace(old, new))


def test_compose_mounts_and_targets():
    services = COMPOSE["services"]
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", TEXT, re.MULTILINE))
    for service in services.values():
        if "build" in service:
            assert service["build"]["target"] in targets
            assert (
                PROJECT / "serving" / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]
            ).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (PROJECT / "serving" / "deploy" / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    # Engines lie in a directory of the volume: a mount point can't be replaced in one step.
    engines, serve, _ = entry_points()
    (built,) = [engines[index + 1] for index, word in enumerate(engines) if word == "--repository"]
    assert f"--model-repository={built}" in serve
    for service, suffix in (("engines", ""), ("server", ":ro")):
        (mount,) = [volume for volume in services[service]["volumes"] if volume.startswith("models:")]
        assert mount == f"models:{Path(built).parent}{suffix}"
    (default,) = re.findall(r":-(.*)}", services["engines"]["command"])
    assert parse_args(default.split()).backend == "tensorrt"
    assert services["server"]["depends_on"]["engines"]["condition"] == "service_completed_successfully"


def patience(args):
    """Seconds that a gateway with these options takes to stop, at most."""
    return Service(settings_of(args), LogOptions(), args.linger).patience


def test_the_gateway_of_compose():
    """In front of the server, for this machine alone, and without a way to write or to gain rights."""
    service, server = COMPOSE["services"]["web"], COMPOSE["services"]["server"]
    args = parse_web_args([*entry_points()[2][3:], *service["command"].split()])
    host, port = args.url.split(":")
    assert host in COMPOSE["services"]
    assert f"127.0.0.1:{port}:{port}" in server["ports"]
    assert service["depends_on"][host]["condition"] == "service_healthy"
    assert service["ports"] == [f"127.0.0.1:{args.port}:{args.port}"]
    assert args.without_keys
    # Named by Prometheus, and by browsers here; nothing else is a name of it.
    assert args.allow_host == ["web"]
    hardened = ("read_only", "cap_drop", "security_opt", "tmpfs", "restart")
    assert {key: service[key] for key in hardened} == {key: server[key] for key in hardened}
    assert int(service["stop_grace_period"].rstrip("s")) > patience(args)
    assert patience(args) < EXIT_TIMEOUT
    assert "memory" in service["deploy"]["resources"]["limits"]


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("127.0.0.1:8080", "/healthz", 200),  # the image's own check
        ("localhost:8080", "/", 200),
        ("web:8080", "/metrics", 200),  # Prometheus
        ("elsewhere.example:8080", "/", 421),  # a page whose name has been made to mean this machine
    ],
)
def test_who_the_gateway_of_compose_answers(host, path, status):
    args = parse_web_args([*entry_points()[2][3:], *COMPOSE["services"]["web"]["command"].split()])
    with asking(create_app(settings_of(args))) as client:
        assert client.get(path, headers={"Host": host}).status_code == status


def test_the_gateway_of_compose_takes_keys_as_its_comment_says():
    text = (PROJECT / "serving" / "deploy" / "compose.yaml").read_text()
    command, secrets, files = re.findall(r"^    #   ((?:command|secrets): .*)$", text, re.MULTILINE)
    args = parse_web_args([*entry_points()[2][3:], *yaml.safe_load(command)["command"].split()])
    (name,) = yaml.safe_load(secrets)["secrets"]
    assert str(args.keys) == f"/run/secrets/{name}"
    changed = COMPOSE | yaml.safe_load(files)
    changed["services"] = changed["services"] | {
        "web": COMPOSE["services"]["web"] | yaml.safe_load(command) | yaml.safe_load(secrets)
    }
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(changed))


def test_monitoring_of_compose():
    monitoring = PROJECT / "serving" / "deploy" / "monitoring"
    scrape = yaml.safe_load((monitoring / "compose-prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scrape["scrape_configs"]}
    assert targets == {"cocoer": ["server:8002"], "cocoer-web": ["web:8080"]}  # the alerts' names for them
    assert {"server", "web"} <= set(COMPOSE["services"])
    source = yaml.safe_load((monitoring / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    assert source["url"].split("//")[1].split(":")[0] in COMPOSE["services"]
    folder = yaml.safe_load((monitoring / "grafana" / "dashboards.yaml").read_text())["providers"][0]["options"]["path"]
    assert any(f":{folder}/" in volume for volume in COMPOSE["services"]["grafana"]["volumes"])
