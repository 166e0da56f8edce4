"""The images and the compose file: linted, and true to what the project has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest
import yaml

from export.arguments import parse_args
from serving.flags import FIXED_RELEASE, drain_of
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
    assert len(installs) == 4
    assert "pip uninstall --yes nvidia-pytriton" in TEXT  # the old Triton of the wheel is in no image
    assert all("--require-hashes" in install for install in installs)
    served = (PROJECT / "requirements-serve.lock").read_text()
    base = (PROJECT / "requirements.lock").read_text()
    for requirement in re.findall(r"^\S+==\S+", served, re.MULTILINE):
        assert requirement in base  # what the tests ran with


def entry_points():
    return [
        json.loads(text.replace("\\\n", ""))
        for text in re.findall(r"^ENTRYPOINT (\[(?:\\\n|[^\n])+\])", TEXT, re.MULTILINE)
    ]


def test_commands_are_those_of_the_project():
    engines, serve = entry_points()
    (command,) = [json.loads(text) for text in re.findall(r"^CMD (\[.+\])$", TEXT, re.MULTILINE)]
    args = parse_args([*engines[2:], *command])
    assert (args.backend, args.precision, str(args.repository)) == ("tensorrt", "fp16", "/models")
    assert (PROJECT / engines[1]).is_file()
    assert serve[:3] == ["python3", "-m", "serving.launcher"]
    drain = drain_of(serve)
    assert drain.http == ("127.0.0.1", 8000)
    # Neither root at the end, nor the shell form, which would keep SIGTERM from the server.
    stages = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[-2:]
    assert all("USER 65532:65532" in stage.split("ENTRYPOINT")[0] for stage in stages)


def test_the_launcher_needs_nothing_but_pythons_own():
    """The served image has no package of the project's."""
    code = "import sys; before = set(sys.modules); import serving.launcher, serving.supervisor, serving.wheel; "
    code += (
        "print([m for m in set(sys.modules) - before if m.split('.')[0] not in (*sys.stdlib_module_names, 'serving')])"
    )
    result = subprocess.run([sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_compose_file():
    """By the rules of the Compose specification; the parser can fail."""
    text = (PROJECT / "serving" / "deploy" / "compose.yaml").read_text()
    parsed = compose_spec.PyCompose.from_yaml(text)
    assert set(parsed.services) == {"engines", "server", "prometheus", "grafana"}
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
    default = re.search(r":-(.*)}", services["engines"]["command"])[1]
    assert parse_args(default.split()).backend == "tensorrt"
    assert services["server"]["depends_on"]["engines"]["condition"] == "service_completed_successfully"


def test_monitoring_of_compose():
    monitoring = PROJECT / "serving" / "deploy" / "monitoring"
    scrape = yaml.safe_load((monitoring / "compose-prometheus.yml").read_text())
    (target,) = scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in COMPOSE["services"]
    assert scrape["scrape_configs"][0]["job_name"] == "cocoer"  # the alerts' name for it
    source = yaml.safe_load((monitoring / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    assert source["url"].split("//")[1].split(":")[0] in COMPOSE["services"]
    folder = yaml.safe_load((monitoring / "grafana" / "dashboards.yaml").read_text())["providers"][0]["options"]["path"]
    assert any(f":{folder}/" in volume for volume in COMPOSE["services"]["grafana"]["volumes"])
