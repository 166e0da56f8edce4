"""The Helm chart and the KServe manifests: rendered, held against the API's schemas, and against each other."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from cocoer_client.web.app import create_app
from cocoer_client.web.arguments import parse_args as parse_web_args
from cocoer_client.web.settings import Settings
from export.arguments import parse_args
from serving.deploy.engines import IN_USE, REPOSITORY
from serving.deploy.engines import parse_args as parse_engines_args
from serving.drain import EXIT_TIMEOUT
from tests.cluster import CHART, render, run_helm, the
from tests.conftest import PROJECT
from tests.unit.test_containers import DOCKERFILE, patience

SETTINGS = {
    "as it comes": (),
    "everything": (
        "monitoring.serviceMonitor.enabled=true",
        "monitoring.serviceMonitor.labels.release=prometheus",
        "monitoring.rules.enabled=true",
        "monitoring.rules.labels.release=prometheus",
        "monitoring.dashboard.enabled=true",
        "models.storageClass=nfs",
        "image.pullSecrets[0].name=key",
        "web.enabled=true",
        "web.keys.secret=keys",
        "web.arguments={--log-format=json}",
        "web.autoscaling.enabled=true",
        "web.ingress.enabled=true",
        "web.ingress.className=nginx",
        "web.ingress.tlsSecret=certificate",
    ),
    "on CPUs": ("gpu.count=0",),
    "plain": (
        "autoscaling.enabled=false",
        "envoy.enabled=false",
        "networkPolicy.enabled=false",
        "engines.enabled=false",
        "models.existingClaim=mine",
        "gpu.nodeSelector.product=L4",
        "web.enabled=true",
        "web.withoutKeys=true",
    ),
}
WEB = ("web.enabled=true", "web.keys.secret=keys")
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that Kubernetes itself does not know."""
MONITORING = PROJECT / "serving" / "deploy" / "monitoring"
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
        ("engines.keep=1", "minimum: got 1, want 2"),
        ("envoy.resources.limits.memory=1G", "does not match pattern"),
        ("strategy.maxSurge=0", "maxSurge and maxUnavailable can't both be 0"),
        ("monitoring.scrapeAnnotations=false", "autoscaling goes by a metric that nobody scrapes"),
        ("web.enabled=true", "name a Secret with API keys (web.keys.secret), or set web.withoutKeys=true"),
        ("web.enabled=true,web.keys.secret=keys,web.withoutKeys=true", "exclude each other"),
        ("web.terminationGracePeriodSeconds=30", "minimum: got 30, want 75"),
        ("web.keys.key=../keys", "does not match pattern"),
        ("image.web=", "minLength: got 0, want 1"),
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
    objects = render(*WEB)
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
    objects = render("monitoring.serviceMonitor.enabled=true")
    monitor = the(objects, "ServiceMonitor", "cocoer")["spec"]
    (service,) = [
        x
        for x in objects
        if x["kind"] == "Service" and monitor["selector"]["matchLabels"].items() <= x["metadata"]["labels"].items()
    ]
    numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert [numbers[endpoint["port"]] for endpoint in monitor["endpoints"]] == [8002]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_container_is_unprivileged_and_bounded(settings):
    for name, template in pods(render(*settings)).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]


def test_volumes():
    """What is mounted is there; servers can't write to engines; shared memory is memory."""
    for template in pods(render(*WEB)).values():
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    spec = pods(render())["cocoer"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["/engines"]["readOnly"]
    (memory,) = [volume for volume in spec["volumes"] if volume["name"] == mounts["/dev/shm"]["name"]]
    assert memory["emptyDir"]["medium"] == "Memory"


NEW = "image.engines=registry.example.com/cocoer-engines:1.0.1"


def build_of(*settings):
    """The directory of the engines that servers with these settings take."""
    (argument,) = [word for word in containers(*settings)[0]["command"] if word.startswith("--name=")]
    return argument.partition("=")[2]


def containers(*settings):
    """Of a server's pod, in the order in which they run."""
    spec = the(render(*settings), "Deployment", "cocoer")["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_nothing_is_a_hook_and_nothing_is_fixed_by_its_name():
    """helm waits for hooks, five minutes; GitOps runs them again; and a Job with an old name can't be changed."""
    for settings in SETTINGS.values():
        for thing in render(*settings):
            assert "helm.sh/hook" not in thing["metadata"].get("annotations", {})
            assert thing["kind"] != "Job"
    claim = the(render(), "PersistentVolumeClaim", "cocoer-models")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("settings", [(), ("gpu.count=0",)])
def test_a_server_takes_the_engines_that_its_first_container_makes(settings):
    engines, server = containers(*settings)
    place = f"/engines/{build_of(*settings)}"
    assert f"--model-repository={place}/{REPOSITORY}" in server["command"]
    assert server["command"][:4] == ["flock", "--shared", "--no-fork", f"{place}/{IN_USE}"]
    builder, server_mounts = ({m["mountPath"]: m for m in one["volumeMounts"]} for one in (engines, server))
    assert builder["/engines"]["name"] == server_mounts["/engines"]["name"]
    assert server_mounts["/engines"]["readOnly"]
    assert "readOnly" not in builder["/engines"]
    args = parse_engines_args(engines["command"][2:])
    assert (str(args.engines), args.name, args.keep) == ("/engines", build_of(*settings), 3)
    options = parse_args(args.options)
    expected = ("onnxruntime", "fp32") if settings else ("tensorrt", "fp16")
    assert (options.backend, options.precision, str(options.checkpoints)) == (*expected, "/checkpoints")


@pytest.mark.parametrize(
    "setting",
    [
        NEW,
        "engines.arguments={--backend,tensorrt}",
        "engines.revision=2",
        "gpu.nodeSelector.product=L4",
        "gpu.resource=nvidia.com/mig-1g.10gb",
        "gpu.count=0",
    ],
)
def test_other_engines_have_another_directory(setting):
    assert build_of(setting) != build_of()
    assert build_of(setting) == build_of(setting)


@pytest.mark.parametrize(
    "setting",
    ["image.serve=cocoer:2", "resources.requests.cpu=2", "autoscaling.maxReplicas=9", "engines.deadlineSeconds=9000"],
)
def test_the_same_engines_have_the_same_directory(setting):
    assert build_of(setting) == build_of()


def test_the_default_options_are_the_same_written_out():
    assert build_of("engines.arguments={--backend,tensorrt,--precision,fp16}") == build_of()


def test_servers_start_anew_for_what_concerns_them_alone():
    """Not at each upgrade of the release: a change of the scaling replaces no pod."""

    def pod(*settings):
        return the(render(*settings), "Deployment", "cocoer")["spec"]["template"]

    assert pod("autoscaling.maxReplicas=9", "envoy.replicas=3") == pod()
    assert pod(NEW) != pod()


def test_an_upgrade_needs_no_gpu_but_the_servers():
    """The container that builds has the server's own: a pod gets the larger of both, not the sum."""
    gpu = "nvidia.com/gpu"
    assert [one["resources"]["limits"][gpu] for one in containers()] == [1, 1]
    assert [one["resources"]["limits"][gpu] for one in containers("gpu.count=2")] == [2, 2]
    deployment = the(render("strategy.maxSurge=0", "strategy.maxUnavailable=1"), "Deployment", "cocoer")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert deployment["spec"]["progressDeadlineSeconds"] >= 7200 + 600


def test_without_gpus_none_is_asked_for_or_taken():
    spec = the(render("gpu.count=0", "gpu.nodeSelector.product=L4"), "Deployment", "cocoer")["spec"]["template"]["spec"]
    assert "tolerations" not in spec
    assert "nodeSelector" not in spec
    for one in containers("gpu.count=0"):
        assert set(one["resources"]["limits"]) == {"memory"}
        assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in one["env"]


def test_the_values_for_cpus():
    result = run_helm("template", "cocoer", CHART, "--values", CHART / "values-cpu.yaml")
    assert result.returncode == 0, result.stderr
    assert "nvidia.com" not in result.stdout
    deployment = the(list(filter(None, yaml.safe_load_all(result.stdout))), "Deployment", "cocoer")
    kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


def test_more_of_tritons_options():
    *_, last = containers(r"serverArguments={--backend-config=tensorrt\,version-compatible=true}")[1]["command"]
    assert last == "--backend-config=tensorrt,version-compatible=true"


def test_a_built_repository_of_ones_own():
    (server,) = containers("engines.enabled=false", "models.existingClaim=mine", "models.path=a/b")
    assert server["command"][:4] == ["python3", "-m", "serving.launcher", "--model-repository=/engines/a/b"]


def test_replicas_are_said_once():
    """By the Deployment without autoscaling, else by the autoscaler alone: each upgrade would undo the scaling."""
    fixed = render("autoscaling.enabled=false", "replicas=5")
    assert the(fixed, "Deployment", "cocoer")["spec"]["replicas"] == 5
    assert not [x for x in fixed if x["kind"] == "HorizontalPodAutoscaler"]
    assert "replicas" not in the(render("replicas=5"), "Deployment", "cocoer")["spec"]
    assert the(render("autoscaling.minReplicas=3"), "HorizontalPodAutoscaler", "cocoer")["spec"]["minReplicas"] == 3


def test_what_scaling_goes_by_is_scraped():
    """By annotations or by a ServiceMonitor, once; of pods that only build, nothing."""

    def annotations(*settings):
        return the(render(*settings), "Deployment", "cocoer")["spec"]["template"]["metadata"].get("annotations", {})

    assert annotations() == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8002",
        "prometheus.io/path": "/metrics",
    }
    assert annotations("monitoring.serviceMonitor.enabled=true") == {}
    monitor = the(render(*SETTINGS["everything"]), "ServiceMonitor", "cocoer")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {"sourceLabels": ["__meta_kubernetes_pod_phase"], "regex": "Pending", "action": "drop"} in endpoint[
        "relabelings"
    ]
    # The alerts' job.
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert the(render(), "Service", "cocoer-servers")["metadata"]["labels"]["app.kubernetes.io/name"] == "cocoer"


def test_the_dashboard_is_this_one():
    dashboard = the(render(*SETTINGS["everything"]), "ConfigMap", "cocoer-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"]["cocoer.json"] == (MONITORING / "grafana-dashboard.json").read_text()
    assert the(render(*SETTINGS["everything"]), "PrometheusRule", "cocoer")["metadata"]["labels"]["release"]


def test_a_packed_chart_has_all_of_it(tmp_path):
    """Rules and dashboard are links in the checkout, and files in a package."""
    assert run_helm("package", CHART, "--destination", tmp_path).returncode == 0
    (package,) = tmp_path.glob("cocoer-*.tgz")
    result = run_helm("template", "cocoer", package, "--set", "monitoring.rules.enabled=true")
    assert "CocoerGone" in result.stdout


def test_another_configuration_means_other_envoys():
    def pod(*settings):
        return the(render(*settings), "Deployment", "cocoer-envoy")["spec"]["template"]

    assert pod("envoy.maxRequestBytes=50000000") != pod()
    assert pod("replicas=7", NEW) == pod()


def test_envoys_are_taken_away_one_by_one():
    objects = render()
    budget = the(objects, "PodDisruptionBudget", "cocoer-envoy")["spec"]
    assert budget["maxUnavailable"] == 1
    envoy = the(objects, "Deployment", "cocoer-envoy")["spec"]
    assert budget["selector"]["matchLabels"].items() <= envoy["template"]["metadata"]["labels"].items()
    assert envoy["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(("memory", "mebibytes"), [("2Gi", 2048), ("700Mi", 700)])
def test_envoys_heap_fits_its_container(memory, mebibytes):
    objects = render(f"envoy.resources.limits.memory={memory}")
    manager = yaml.safe_load(the(objects, "ConfigMap", "cocoer-envoy")["data"]["envoy.yaml"])["overload_manager"]
    heap = manager["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    assert heap == mebibytes * 2**20 * 75 // 100


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
    # The container that builds is one of these pods, from their first moment on.
    assert server["policyTypes"] == ["Ingress", "Egress"]
    template = the(objects, "Deployment", "cocoer")["spec"]["template"]
    assert server["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["initContainers"][0]["name"] == "engines"
    alone = the(render("envoy.enabled=false"), "NetworkPolicy", "cocoer-server")["spec"]
    assert alone["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"cocoer-client": "true"}


def web_container(*settings):
    """The gateway's, and its volumes by name."""
    spec = the(render(*settings), "Deployment", "cocoer-web")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return container, {volume["name"]: volume for volume in spec["volumes"]}


@pytest.mark.parametrize("settings", [WEB, ("web.enabled=true", "web.withoutKeys=true", "envoy.enabled=false")])
def test_the_gateway_asks_what_there_is(settings):
    """By the service that clients have, whatever is behind it; the image's own command, with options that it has."""
    container, _ = web_container(*settings)
    assert "command" not in container
    entry_point = json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE.read_text(), re.MULTILINE)[-1])
    args = parse_web_args([*entry_point[3:], *container["args"]])
    host, port = args.url.split(":")
    (service_port,) = the(render(*settings), "Service", host)["spec"]["ports"]
    assert service_port["port"] == int(port)
    assert container["ports"] == [{"name": "http", "containerPort": args.port}]
    assert args.without_keys == ("web.withoutKeys=true" in settings)
    assert args.allow_host == []  # any: it is the Ingress that knows them


def test_the_gateways_keys_are_a_file_of_the_secret():
    container, volumes = web_container(*WEB, "web.keys.key=other.txt")
    (path,) = [word.partition("=")[2] for word in container["args"] if word.startswith("--keys=")]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == str(Path(path).parent)]
    assert mount["readOnly"]
    assert "subPath" not in mount  # it would stay as it was when the Secret changes
    assert volumes[mount["name"]]["secret"] == {"secretName": "keys", "defaultMode": 0o440}
    assert Path(path).name == "other.txt"


def test_there_is_no_gateway_unless_it_is_asked_for():
    assert [x["metadata"]["name"] for x in render() if x["metadata"]["name"].endswith("-web")] == []
    kinds = {x["kind"] for x in render(*WEB) if x["metadata"]["name"] == "cocoer-web"}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    kinds = {x["kind"] for x in render(*SETTINGS["everything"]) if x["metadata"]["name"] == "cocoer-web"}
    assert {"HorizontalPodAutoscaler", "Ingress", "ServiceMonitor"} <= kinds


def test_the_gateways_pods_are_counted_once():
    assert the(render(*WEB, "web.replicas=5"), "Deployment", "cocoer-web")["spec"]["replicas"] == 5
    scaled = render(*WEB, "web.autoscaling.enabled=true", "web.replicas=5")
    assert "replicas" not in the(scaled, "Deployment", "cocoer-web")["spec"]
    target = the(scaled, "HorizontalPodAutoscaler", "cocoer-web")["spec"]["scaleTargetRef"]
    assert the(scaled, target["kind"], target["name"])
    (metric,) = the(scaled, "HorizontalPodAutoscaler", "cocoer-web")["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"
    container, _ = web_container(*WEB)
    assert "cpu" in container["resources"]["requests"]  # the percentage is one of it


def test_the_gateway_has_time_to_finish():
    spec = the(render(*WEB), "Deployment", "cocoer-web")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    finishing = patience(parse_web_args([]))
    assert spec["terminationGracePeriodSeconds"] >= finishing + pause + 5
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["web"]["properties"]
    assert schema["terminationGracePeriodSeconds"]["minimum"] > finishing + pause


def test_the_gateways_memory_holds_its_uploads():
    container, _ = web_container(*WEB)
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert parse_web_args([]).max_uploads <= 2**31 // 2


def test_the_gateways_probes_are_its_own():
    """And asked by a name that it always answers to."""
    container, _ = web_container(*WEB)
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert {name: get["path"] for name, get in paths.items()} == {"readiness": "/readyz", "liveness": "/healthz"}
    assert {"/readyz", "/healthz"} <= set(create_app(Settings()).openapi()["paths"])
    for get in paths.values():
        assert get["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_what_the_ingress_leads_to():
    """The page and the interface, and of the rest nothing."""
    objects = render(*SETTINGS["everything"])
    ingress = the(objects, "Ingress", "cocoer-web")["spec"]
    (rule,) = ingress["rules"]
    paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
    assert paths == {"/": "Exact", "/page": "Prefix", "/v1": "Prefix", "/docs": "Prefix", "/openapi.json": "Exact"}
    for path in rule["http"]["paths"]:
        service = the(objects, "Service", path["backend"]["service"]["name"])
        assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert ingress["tls"] == [{"hosts": [rule["host"]], "secretName": "certificate"}]
    assert ingress["ingressClassName"] == "nginx"

    def reached(path):
        return any(
            path == prefix if kind == "Exact" else path == prefix or path.startswith(f"{prefix}/")
            for prefix, kind in paths.items()
        )

    private = {"/metrics", "/healthz", "/readyz"}
    assert not any(map(reached, private))
    public = set(create_app(Settings()).openapi()["paths"]) - private
    assert [path for path in sorted(public) if not reached(path)] == []
    assert len(public) >= 4


@pytest.mark.parametrize(("more", "behind"), [((), "envoy"), (("envoy.enabled=false",), "server")])
def test_who_may_talk_to_the_gateway_and_to_whom_it_may(more, behind):
    objects = render(*WEB, "web.ingress.enabled=true", *more)
    policy = the(objects, "NetworkPolicy", "cocoer-web")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["ingress"]
    namespaces = [
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for source in rule["from"]
        if "namespaceSelector" in source
    ]
    assert namespaces == ["ingress-nginx", "monitoring"]
    asked, names = policy["egress"]
    (target,) = asked["to"]
    assert target["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == behind
    (port,) = asked["ports"]
    assert [there["grpc"] for there in ports_behind(objects, target["podSelector"]["matchLabels"])] == [port["port"]]
    assert {(port["port"], port["protocol"]) for port in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    # And those whom it asks let it in, by the labels of its pods.
    labels = pods(objects)["cocoer-web"]["metadata"]["labels"]
    asking = the(objects, "NetworkPolicy", f"cocoer-{behind}")["spec"]["ingress"][0]["from"]
    assert any(source["podSelector"]["matchLabels"].items() <= labels.items() for source in asking)
    alone = the(render(*more), "NetworkPolicy", f"cocoer-{behind}")["spec"]["ingress"][0]["from"]
    assert not any(source["podSelector"]["matchLabels"].items() <= labels.items() for source in alone)


def test_the_gateway_is_scraped_once():
    def annotations(*settings):
        return the(render(*settings), "Deployment", "cocoer-web")["spec"]["template"]["metadata"].get("annotations", {})

    assert annotations(*WEB)["prometheus.io/port"] == "8080"
    assert annotations(*WEB, "monitoring.serviceMonitor.enabled=true") == {}
    objects = render(*SETTINGS["everything"])
    monitor = the(objects, "ServiceMonitor", "cocoer-web")["spec"]
    (service,) = [
        x
        for x in objects
        if x["kind"] == "Service" and monitor["selector"]["matchLabels"].items() <= x["metadata"]["labels"].items()
    ]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    # The name that the alerts and the dashboard have, and compose's Prometheus gives.
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "cocoer-web"}]
    jobs = yaml.safe_load((MONITORING / "compose-prometheus.yml").read_text())["scrape_configs"]
    assert "cocoer-web" in {job["job_name"] for job in jobs}


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
    pod = the(render(), "Deployment", "cocoer")["spec"]["template"]["spec"]
    (chart,) = pod["containers"]
    objects = kserve_objects()
    (own,) = objects["ServingRuntime"]["spec"]["containers"]
    for key in ("image", "securityContext", "lifecycle", "env"):
        assert own[key] == chart[key], key
    start = chart["command"].index("python3")
    assert [*own["command"], own["args"][0].partition("=")[0]] == [
        *chart["command"][start : start + 3],
        "--model-repository",
    ]
    assert own["args"][1:] == chart["command"][start + 4 :]
    ports = {port["containerPort"] for port in own["ports"]}
    assert ports == {port["containerPort"] for port in chart["ports"]} - {8000}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        numbers = {port["name"]: port["containerPort"] for port in chart["ports"]}
        named = chart[probe] | {
            "httpGet": {**chart[probe]["httpGet"], "port": numbers[chart[probe]["httpGet"]["port"]]}
        }
        assert own[probe] == named, probe
    predictor = objects["InferenceService"]["spec"]["predictor"]
    for key in ("securityContext", "terminationGracePeriodSeconds", "automountServiceAccountToken"):
        assert predictor[key] == pod[key], key
    annotations = objects["ServingRuntime"]["spec"]["annotations"]
    assert annotations == {"prometheus.kserve.io/port": "8002", "prometheus.kserve.io/path": "/metrics"}
