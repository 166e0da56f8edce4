"""The Helm chart and the KServe manifests: rendered, held against the API's schemas, and against each other."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from serving.drain import EXIT_TIMEOUT
from tests.cluster import CHART, render, run_helm, the
from tests.conftest import PROJECT

SETTINGS = {
    "as it comes": (),
    "everything": ("serviceMonitor.enabled=true", "models.storageClass=nfs", "image.pullSecrets[0].name=key"),
    "plain": (
        "autoscaling.enabled=false",
        "envoy.enabled=false",
        "networkPolicy.enabled=false",
        "engines.enabled=false",
        "models.existingClaim=mine",
        "gpu.nodeSelector.product=L4",
    ),
}
CUSTOM = {"ServiceMonitor"}
"""Kinds that Kubernetes itself does not know."""
KUBERNETES = ("1.28", "1.34", "1.37")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("version", KUBERNETES)
def test_valid(settings, version):
    """No unknown field, none missing, all of the right type."""
    objects = render(*settings)
    assert len(objects) >= 4
    for thing in objects:
        if thing["kind"] not in CUSTOM:
            kubernetes_validate.validate(thing, version, strict=True)


def test_the_validation_can_fail():
    deployment = the(render(), "Deployment", "cocoer")
    deployment["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


def test_lint():
    result = run_helm("lint", "--strict", CHART)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("replicas=0", "minimum: got 0, want 1"),
        ("autoscalling.enabled=true", "additional properties 'autoscalling' not allowed"),
        ("terminationGracePeriodSeconds=10", "minimum: got 10, want 70"),
        ("models.accessMode=Sometimes", "value must be one of"),
    ],
)
def test_wrong_values_are_told(setting, told):
    result = run_helm("template", "cocoer", CHART, "--set", setting)
    assert result.returncode != 0
    assert told in result.stderr


def pods(objects):
    return {
        x["metadata"]["name"]: x["spec"]["template"]
        for x in objects
        if x["kind"] in ("Deployment", "Job", "StatefulSet")
    }


def test_services_and_policies_select_pods_there_are():
    objects = render()
    labels = [template["metadata"]["labels"] for template in pods(objects).values()]

    def selects(selector):
        return any(selector.items() <= found.items() for found in labels)

    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            assert selects(spec["selector"]), thing["metadata"]["name"]
        if thing["kind"] == "PodDisruptionBudget":
            assert selects(spec["selector"]["matchLabels"])
        if thing["kind"] == "NetworkPolicy":
            assert selects(spec["podSelector"]["matchLabels"]), thing["metadata"]["name"]
    target = the(objects, "HorizontalPodAutoscaler", "cocoer")["spec"]["scaleTargetRef"]
    assert the(objects, target["kind"], target["name"])
    assert "replicas" not in the(objects, "Deployment", "cocoer")["spec"]  # else each upgrade would undo the scaling


def ports_of(template):
    """Name -> number of a pod's ports."""
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }


def ports_behind(objects, selector):
    """Of each pod that is selected."""
    found = [ports_of(x) for x in pods(objects).values() if selector.items() <= x["metadata"]["labels"].items()]
    assert found, selector
    return found


def named_ports(objects):
    """Whatever names a pod's port: what it is, the name, the ports of the pods it means, and the number it must be."""
    for thing in objects:
        kind, spec = thing["kind"], thing.get("spec", {})
        where = f"{kind} {thing['metadata']['name']}"
        if kind == "Service":
            for port in spec["ports"]:
                for there in ports_behind(objects, spec["selector"]):
                    yield where, port["targetPort"], there, port["port"]
        if kind == "NetworkPolicy":
            for port in (port for rule in spec.get("ingress", []) for port in rule["ports"]):
                for there in ports_behind(objects, spec["podSelector"]["matchLabels"]):
                    yield where, port["port"], there, None
    for name, template in pods(objects).items():
        for container in template["spec"]["containers"]:
            own = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    yield f"{probe} of {name}", container[probe]["httpGet"]["port"], own, None


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_ports_lead_somewhere(settings):
    """A named port is one of the very pods that are meant, and a Service's number is the container's."""
    found = list(named_ports(render(*settings)))
    assert len(found) >= 7
    for where, name, there, number in found:
        assert name in there, where
        assert number in (None, there[name]), where


def test_a_port_of_other_pods_leads_nowhere():
    """Envoy's readiness is at a port that servers don't have."""
    objects = render()
    the(objects, "Service", "cocoer-servers")["spec"]["ports"][0]["targetPort"] = "ready"
    assert any(name not in there for _, name, there, _ in named_ports(objects))


def test_what_is_scraped_is_the_servers_metrics():
    objects = render("serviceMonitor.enabled=true")
    monitor = the(objects, "ServiceMonitor", "cocoer")["spec"]
    (service,) = [
        x
        for x in objects
        if x["kind"] == "Service" and monitor["selector"]["matchLabels"].items() <= x["metadata"]["labels"].items()
    ]
    numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert [numbers[endpoint["port"]] for endpoint in monitor["endpoints"]] == [8002]


def test_every_container_is_unprivileged_and_bounded():
    for name, template in pods(render()).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]


def test_volumes():
    """What is mounted is there; servers can't write to engines; shared memory is memory."""
    for template in pods(render()).values():
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    spec = pods(render())["cocoer"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/models"]["readOnly"]
    (memory,) = [volume for volume in spec["volumes"] if volume["name"] == mounts["/dev/shm"]["name"]]
    assert memory["emptyDir"]["medium"] == "Memory"


def test_engines_are_built_before_servers_start():
    objects = render()
    job, claim = the(objects, "Job", "cocoer-engines"), the(objects, "PersistentVolumeClaim", "cocoer-models")
    weight = {x["kind"]: int(x["metadata"]["annotations"]["helm.sh/hook-weight"]) for x in (job, claim)}
    assert weight["PersistentVolumeClaim"] < weight["Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    gpu = "nvidia.com/gpu"
    server = the(objects, "Deployment", "cocoer")["spec"]["template"]["spec"]
    builder = job["spec"]["template"]["spec"]
    # The same kind of GPU: a plan runs on no other.
    assert (
        builder["containers"][0]["resources"]["limits"][gpu] == server["containers"][0]["resources"]["limits"][gpu] == 1
    )
    assert builder["tolerations"] == server["tolerations"]


def test_there_is_time_to_finish():
    spec = the(render(), "Deployment", "cocoer")["spec"]["template"]["spec"]
    pause = float(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= EXIT_TIMEOUT + pause + 10
    minimum = json.loads((CHART / "values.schema.json").read_text())["properties"]["terminationGracePeriodSeconds"][
        "minimum"
    ]
    assert minimum >= EXIT_TIMEOUT + pause


def test_who_may_talk_to_whom():
    objects = render()
    server = the(objects, "NetworkPolicy", "cocoer-server")["spec"]
    assert server["egress"] == []
    sources = [next(iter(rule["from"][0])) for rule in server["ingress"]]
    assert sources == ["podSelector", "namespaceSelector"]
    assert [port["port"] for port in server["ingress"][1]["ports"]] == ["metrics"]
    engines = the(objects, "NetworkPolicy", "cocoer-engines")["spec"]
    assert set(engines["policyTypes"]) == {"Ingress", "Egress"}
    assert "egress" not in engines
    alone = the(render("envoy.enabled=false"), "NetworkPolicy", "cocoer-server")["spec"]
    assert alone["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"cocoer-client": "true"}


def test_the_scaling_metric_is_tritons():
    """The adapter's rule in the notes makes the metric of one that the dashboard, which is tested, reads too."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    metric = the(render(), "HorizontalPodAutoscaler", "cocoer")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert metric == values["autoscaling"]["metric"]
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    (series,) = re.findall(r"seriesQuery: '(\w+)\{model=\"cocoer\"", notes)
    assert series in (PROJECT / "serving" / "deploy" / "monitoring" / "grafana-dashboard.json").read_text()


# KServe's kinds are not in Kubernetes' schemas; its own Python models list their fields.


def kserve_model(name):
    """JSON name -> type of one of KServe's models, read from its source (importing it wants most of PyPI)."""
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    assert spec.submodule_search_locations
    directory = Path(spec.submodule_search_locations[0]) / "models"
    file = directory / (re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() + ".py")
    if not file.is_file():
        return None
    found = {}
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Assign(targets=[ast.Name(id="openapi_types" | "attribute_map" as name)]):
                found[name] = ast.literal_eval(node.value)
    return {found["attribute_map"][key]: kind for key, kind in found["openapi_types"].items()}


def check_fields(value, kind, where):
    """Unknown fields of KServe's models, and values of another type, by their path."""
    if inner := re.match(r"list\[(.*)\]", kind):
        assert isinstance(value, list), where
        return [problem for i, item in enumerate(value) for problem in check_fields(item, inner[1], f"{where}[{i}]")]
    simple = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}.get(kind)
    if simple:
        return [] if isinstance(value, simple) else [f"{where}: {value!r} is no {kind}"]
    if (fields := kserve_model(kind)) is None:  # Kubernetes' own: checked below
        return []
    unknown = [f"{where}.{key}" for key in value if key not in fields]
    return unknown + [
        p for key, item in value.items() if key in fields for p in check_fields(item, fields[key], f"{where}.{key}")
    ]


def kserve_objects():
    text = (PROJECT / "serving" / "deploy" / "kserve" / "inference-service.yaml").read_text()
    return {thing["kind"]: thing for thing in yaml.safe_load_all(text)}


@pytest.mark.parametrize(
    ("kind", "model"), [("ServingRuntime", "V1alpha1ServingRuntime"), ("InferenceService", "V1beta1InferenceService")]
)
def test_kserve(kind, model):
    thing = kserve_objects()[kind]
    assert kserve_model(model)
    assert check_fields(thing, model, kind) == []
    thing["spec"]["predictors"] = thing["spec"].pop("predictor", {})
    assert check_fields(thing, model, kind) == [f"{kind}.spec.predictors"]


def test_kserves_pod_is_a_pod():
    """What KServe hands on to Kubernetes, by Kubernetes' own schema."""
    objects = kserve_objects()
    runtime, predictor = objects["ServingRuntime"]["spec"], objects["InferenceService"]["spec"]["predictor"]
    container = {**runtime["containers"][0], "resources": predictor["model"]["resources"]}
    spec = {"containers": [container], "volumes": runtime["volumes"]}
    spec |= {key: value for key, value in predictor.items() if key not in ("model", "minReplicas")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cocoer"}, "spec": spec}
    kubernetes_validate.validate(pod, KUBERNETES[-1], strict=True)
    model = predictor["model"]
    assert model["runtime"] == objects["ServingRuntime"]["metadata"]["name"]
    assert model["modelFormat"]["name"] in [f["name"] for f in runtime["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["protocolVersions"]


def test_kserve_and_the_chart_are_the_same_server():
    chart = the(render(), "Deployment", "cocoer")["spec"]["template"]["spec"]["containers"][0]
    own = kserve_objects()["ServingRuntime"]["spec"]["containers"][0]
    assert own["image"] == chart["image"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert own[probe]["httpGet"]["path"] == chart[probe]["httpGet"]["path"]
