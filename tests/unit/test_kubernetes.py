"""kubernetes/ is what a cluster accepts, keeps the restricted Pod Security Standard, and has what Holdfast needs.

Every rule is checked on each deployment, and must notice each patch that breaks it. Those of the standard are named by
its controls: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from harness.kubernetes import KUBECTL, KUBERNETES, Manifests
from mcp_holdfast.http import health
from mcp_holdfast.serve import gunicorn_settings
from mcp_holdfast.settings import (
    FILE_PREFIXES,
    Environment,
    Settings,
    load_settings,
    read_environment,
)

ROOT = KUBERNETES.parent
PAGE = (ROOT / "docs/kubernetes.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = "/run/secrets/holdfast"
SECRET_WORDS = {"PASSWORD", "SECRET", "TOKEN", "KEY", "PIN", "PAT", "URL"}
PUBLIC = {"HOLDFAST_BASE_URL"}
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
DNS, HTTPS, POSTGRESQL, EXASOL = {("UDP", 53), ("TCP", 53)}, {("TCP", 443)}, {("TCP", 5432)}, {("TCP", 8563)}
NAMESPACE_OF_DNS = {"kubernetes.io/metadata.name": "kube-system"}
DEPLOYMENTS = ("base", "postgresql", "mine")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kubernetes/ with the kustomization that docs/kubernetes.md tells its reader to write."""
    tree = tmp_path_factory.mktemp("copy") / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tree / "mine").mkdir()
    (tree / "mine/kustomization.yaml").write_text(example)
    return tree


@pytest.fixture(scope="module")
def built(tree: Path) -> dict[str, Manifests]:
    return {deployment: Manifests.build(tree / deployment) for deployment in DEPLOYMENTS}


@dataclass(frozen=True)
class Patch:
    """One operation of a JSON patch (RFC 6902) on the document of a kind."""

    kind: str
    path: str
    value: Any = None
    operation: str = "add"

    def applied(self, deployment: Path, directory: Path) -> Manifests:
        """What `deployment` comes to with it; `directory` is a new one beside it."""
        operation = {"op": self.operation, "path": self.path}
        if self.operation != "remove":
            operation["value"] = self.value
        patch = {"target": {"kind": self.kind}, "patch": yaml.safe_dump([operation])}
        directory.mkdir()
        (directory / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": [f"../{deployment.name}"], "patches": [patch]})
        )
        return Manifests.build(directory)


POD = "/spec/template/spec"
CONTAINER = f"{POD}/containers/0"


def on_pod(path: str, value: Any) -> Patch:
    return Patch("Deployment", f"{POD}/{path}", value)


def on_container(path: str, value: Any) -> Patch:
    return Patch("Deployment", f"{CONTAINER}/{path}", value)


def without(kind: str, path: str) -> Patch:
    return Patch(kind, path, operation="remove")


Check = Callable[[Manifests], None]


@dataclass(frozen=True)
class Rule:
    check: Check
    breaks: tuple[Patch, ...]
    deployments: tuple[str, ...]


RULES: dict[str, Rule] = {}


def broken_by(*breaks: Patch, of: tuple[str, ...] = DEPLOYMENTS) -> Callable[[Check], Check]:
    """A rule of these deployments, and what must be seen to break it."""

    def register(check: Check) -> Check:
        RULES[check.__name__] = Rule(check, breaks, of)
        return check

    return register


def security(manifests: Manifests) -> dict[str, Any]:
    found: dict[str, Any] = manifests.container["securityContext"]
    return found


# The restricted Pod Security Standard


@broken_by(Patch("Namespace", "/metadata/labels/pod-security.kubernetes.io~1enforce", "baseline"))
def namespace_enforces_the_restricted_standard(manifests: Manifests) -> None:
    labels = manifests["Namespace"]["metadata"]["labels"]
    modes = [labels.get(f"pod-security.kubernetes.io/{mode}") for mode in ("enforce", "audit", "warn")]
    assert modes == ["restricted"] * 3


@broken_by(on_pod("initContainers", [{"name": "other", "image": "other"}]))
def every_container_is_the_one_that_is_looked_at_here(manifests: Manifests) -> None:
    assert len(manifests.pod["containers"]) == 1
    assert "initContainers" not in manifests.pod


@broken_by(
    on_container("securityContext/windowsOptions", {"hostProcess": True}),
    on_pod("securityContext/windowsOptions", {"hostProcess": True}),
)
def host_process(manifests: Manifests) -> None:
    assert not any("windowsOptions" in context for context in (security(manifests), manifests.pod["securityContext"]))


@broken_by(on_pod("hostNetwork", True), on_pod("hostPID", True), on_pod("hostIPC", True))
def host_namespaces(manifests: Manifests) -> None:
    assert not any(manifests.pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


@broken_by(on_container("securityContext/privileged", True))
def privileged_containers(manifests: Manifests) -> None:
    assert security(manifests)["privileged"] is False


@broken_by(
    on_container("securityContext/capabilities/add", ["NET_BIND_SERVICE"]),
    on_container("securityContext/capabilities/drop", ["NET_RAW"]),
)
def capabilities(manifests: Manifests) -> None:
    assert security(manifests)["capabilities"] == {"drop": ["ALL"]}


@broken_by(on_container("ports/0/hostPort", 8000))
def host_ports(manifests: Manifests) -> None:
    assert not any("hostPort" in port for port in manifests.container["ports"])


@broken_by(on_container("livenessProbe/httpGet/host", "169.254.169.254"))
def host_probes(manifests: Manifests) -> None:
    assert not any("host" in manifests.container[name]["httpGet"] for name in PROBES)


@broken_by(
    on_container("securityContext/appArmorProfile", {"type": "Unconfined"}),
    on_pod("securityContext/seLinuxOptions", {"user": "system_u"}),
    on_container("securityContext/procMount", "Unmasked"),
    on_pod("securityContext/sysctls", [{"name": "kernel.msgmax", "value": "65536"}]),
)
def app_armor_selinux_proc_mount_and_sysctls(manifests: Manifests) -> None:
    loosened = {"appArmorProfile", "seLinuxOptions", "procMount", "sysctls"}
    assert not loosened & (security(manifests).keys() | manifests.pod["securityContext"].keys())


@broken_by(on_pod("volumes/-", {"name": "host", "hostPath": {"path": "/"}}))
def volume_types(manifests: Manifests) -> None:
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    types = {key for volume in manifests.pod["volumes"] for key in volume if key != "name"}
    assert types <= allowed | {"secret"}


@broken_by(on_container("securityContext/allowPrivilegeEscalation", True))
def privilege_escalation(manifests: Manifests) -> None:
    assert security(manifests)["allowPrivilegeEscalation"] is False


@broken_by(
    on_pod("securityContext/runAsNonRoot", False),
    on_pod("securityContext/runAsUser", 0),
    on_container("securityContext/runAsUser", 0),
)
def running_as_non_root(manifests: Manifests) -> None:
    context = {**manifests.pod["securityContext"], **security(manifests)}
    user = f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["runAsNonRoot"] is True
    assert f"USER {user}\n" in DOCKERFILE


@broken_by(
    on_pod("securityContext/seccompProfile/type", "Unconfined"),
    on_container("securityContext/seccompProfile", {"type": "Unconfined"}),
)
def seccomp(manifests: Manifests) -> None:
    context = {**manifests.pod["securityContext"], **security(manifests)}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


# Beyond the standard


@broken_by(
    on_container("securityContext/readOnlyRootFilesystem", False),
    on_container("volumeMounts/-", {"name": "tmp", "mountPath": "/opt"}),
    on_container("volumeMounts/2/readOnly", False),
    without("Deployment", f"{POD}/volumes/1/emptyDir/sizeLimit"),
)
def only_the_volume_and_a_small_tmp_are_writable(manifests: Manifests) -> None:
    mounts = manifests.container["volumeMounts"]
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    temporary = manifests.volumes["/tmp"]["emptyDir"]
    volume = re.findall(r"^VOLUME (.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert security(manifests)["readOnlyRootFilesystem"] is True
    assert writable == {"/tmp", *volume}
    assert temporary.keys() == {"medium", "sizeLimit"}


@broken_by(on_pod("automountServiceAccountToken", True), Patch("ServiceAccount", "/automountServiceAccountToken", True))
def no_token_for_kubernetes_is_mounted(manifests: Manifests) -> None:
    account = manifests["ServiceAccount"]
    assert manifests.pod["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert manifests.pod["serviceAccountName"] == account["metadata"]["name"]


@broken_by(
    on_container("image", "registry.example.com/holdfast"),
    on_container("image", "registry.example.com/holdfast:latest"),
)
def image_is_pinned(manifests: Manifests) -> None:
    assert re.fullmatch(r"[\w./-]+(:\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})", manifests.container["image"]) is not None


@broken_by(without("Deployment", f"{CONTAINER}/resources/limits/memory"), on_container("resources/requests", {}))
def resources_are_asked_for_and_limited(manifests: Manifests) -> None:
    resources = manifests.container["resources"]
    asked, limited = resources["requests"].keys(), resources["limits"].keys()
    assert {"cpu", "memory", "ephemeral-storage"} <= asked
    assert {"memory", "ephemeral-storage"} <= limited


# Settings and secrets


@broken_by(without("ConfigMap", "/data/HOLDFAST_REPLICAS"))
def sessions_need_no_sticky_routing(manifests: Manifests) -> None:
    assert manifests.settings.get("HOLDFAST_REPLICAS") == "1"


@broken_by(
    Patch("ConfigMap", "/data/HOLDFAST_PIN", "correct-horse"),
    Patch("ConfigMap", "/data/HOLDFAST_PIN_FILE", "/data/pin"),
    Patch("ConfigMap", "/data/SECRET_FILE", f"{SECRETS}/secret"),
    on_container("env", [{"name": "HOLDFAST_PIN", "value": "correct-horse"}]),
    on_container("envFrom/-", {"secretRef": {"name": "holdfast"}}),
)
def every_secret_is_a_file(manifests: Manifests) -> None:
    names = {name for name in manifests.settings if SECRET_WORDS & set(name.removesuffix("_FILE").split("_"))} - PUBLIC
    sources = manifests.container["envFrom"]
    assert names
    assert all(name.endswith("_FILE") and name.startswith(FILE_PREFIXES) for name in names)
    assert all(Path(manifests.settings[name]).parent == Path(SECRETS) for name in names)
    assert "env" not in manifests.container
    assert sources == [{"configMapRef": {"name": manifests["ConfigMap"]["metadata"]["name"]}}]


@broken_by(
    on_pod("securityContext/fsGroup", 0),
    on_pod("volumes/2/secret/defaultMode", 0o400),
    on_pod("volumes/2/secret/defaultMode", 0o444),
)
def secrets_are_readable_for_the_servers_user_alone(manifests: Manifests) -> None:
    # The files belong to root and to fsGroup, which the server's user is in.
    context = manifests.pod["securityContext"]
    secret = manifests.volumes[SECRETS]["secret"]
    assert context["fsGroup"] == context["runAsGroup"]
    assert secret["defaultMode"] == 0o440


@broken_by(without("Deployment", f"{POD}/enableServiceLinks"))
def no_variable_of_a_service_is_taken_for_a_setting(manifests: Manifests) -> None:
    # A Service called holdfast would bring HOLDFAST_PORT and others, at which the server does not start.
    assert manifests.pod.get("enableServiceLinks") is False


# Start, readiness, end

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
SLOWEST_START = 60
"""In seconds, for a machine that is as busy as one can be."""


@broken_by(
    on_container("livenessProbe/httpGet/path", "/readyz"),
    on_container("readinessProbe/httpGet/path", "/livez"),
    on_container("startupProbe/httpGet/path", "/healthz"),
    on_container("startupProbe/httpGet/port", "web"),
)
def probes_ask_what_the_server_answers(manifests: Manifests) -> None:
    asked = [manifests.container[name]["httpGet"] for name in PROBES]
    served = [route.path for route in health.health_routes(health.Readiness(None))]  # type: ignore[arg-type]
    (port,) = manifests.container["ports"]
    assert [probe["path"] for probe in asked] == ["/livez", "/readyz", "/livez"]
    assert {probe["path"] for probe in asked} == set(served)
    assert {probe["port"] for probe in asked} == {port["name"]}
    assert port["containerPort"] == Settings().port


@broken_by(on_container("readinessProbe/timeoutSeconds", 2))
def readiness_waits_longer_than_the_server_for_its_store(manifests: Manifests) -> None:
    assert manifests.container["readinessProbe"]["timeoutSeconds"] > health.DEADLINE


@broken_by(on_container("startupProbe/failureThreshold", 20))
def a_slow_start_and_a_wait_for_the_engine_are_not_cut_off(manifests: Manifests) -> None:
    probe = manifests.container["startupProbe"]
    settings, _ = load_settings(Environment({**manifests.settings}))
    assert probe["periodSeconds"] * probe["failureThreshold"] >= SLOWEST_START + settings.storage_wait


@broken_by(on_pod("terminationGracePeriodSeconds", 30), on_container("lifecycle/preStop/sleep/seconds", 20))
def grace_period_is_longer_than_the_drain(manifests: Manifests) -> None:
    before = manifests.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = gunicorn_settings(Settings())["graceful_timeout"]
    assert manifests.pod["terminationGracePeriodSeconds"] >= before + drain + 10


@broken_by(without("Deployment", f"{CONTAINER}/lifecycle"))
def a_pod_that_goes_is_out_of_the_service_first(manifests: Manifests) -> None:
    assert manifests.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) >= 5


# Replicas


@broken_by(
    Patch("Deployment", "/spec/replicas", 1),
    Patch("Deployment", "/spec/strategy/rollingUpdate/maxUnavailable", 1),
    Patch("Deployment", "/spec/strategy", {"type": "Recreate"}),
)
def an_update_never_has_fewer_pods(manifests: Manifests) -> None:
    spec = manifests["Deployment"]["spec"]
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["replicas"] > 1
    assert spec["strategy"] == update


@broken_by(
    Patch("PodDisruptionBudget", "/spec/maxUnavailable", 2),
    without("PodDisruptionBudget", "/spec/unhealthyPodEvictionPolicy"),
)
def a_drained_node_leaves_one_pod_and_is_not_held_up_by_an_outage(manifests: Manifests) -> None:
    budget = manifests["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] < manifests["Deployment"]["spec"]["replicas"]
    assert budget.get("unhealthyPodEvictionPolicy") == "AlwaysAllow"


@broken_by(
    without("Deployment", f"{POD}/topologySpreadConstraints/0"),
    on_pod("topologySpreadConstraints/0/whenUnsatisfiable", "DoNotSchedule"),
)
def pods_are_spread_over_nodes_and_zones_where_that_is_possible(manifests: Manifests) -> None:
    spread = manifests.pod["topologySpreadConstraints"]
    assert {constraint["topologyKey"] for constraint in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(constraint["whenUnsatisfiable"] == "ScheduleAnyway" for constraint in spread)


@broken_by(on_pod("hostname", "holdfast"))
def each_replica_has_its_own_host_name(manifests: Manifests) -> None:
    assert "hostname" not in manifests.pod


@broken_by(
    Patch("PersistentVolumeClaim", "/spec/accessModes", ["ReadWriteOnce"]),
    Patch("Deployment", f"{POD}/volumes/0", {"name": "data", "emptyDir": {}}, operation="replace"),
    on_container("volumeMounts/0/subPathExpr", "$(HOSTNAME)"),
    of=("base", "mine"),
)
def all_replicas_share_one_volume(manifests: Manifests) -> None:
    claim = manifests["PersistentVolumeClaim"]
    source = manifests.volumes["/data"].get("persistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert source == {"claimName": claim["metadata"]["name"]}
    assert manifests.container["volumeMounts"][0].keys() == {"name", "mountPath"}


@broken_by(without("ConfigMap", "/data/HOLDFAST_STORAGE"), of=("postgresql",))
def an_engine_takes_the_volumes_place(manifests: Manifests) -> None:
    required = ("HOLDFAST_STORAGE_URL_FILE", "HOLDFAST_STORAGE_KEY_FILE", "HOLDFAST_SIGNING_KEY_FILE")
    assert "PersistentVolumeClaim" not in manifests
    assert manifests.settings.get("HOLDFAST_STORAGE") == "postgresql"
    assert all(name in manifests.settings for name in required)


# The network


@broken_by(
    Patch("Service", "/spec/selector", {"app.kubernetes.io/name": "other"}),
    Patch("PodDisruptionBudget", "/spec/selector", {"matchLabels": {"app.kubernetes.io/name": "other"}}),
    Patch("NetworkPolicy", "/spec/podSelector", {"matchLabels": {"app.kubernetes.io/name": "other"}}),
    on_pod("topologySpreadConstraints/0/labelSelector", {"matchLabels": {"app.kubernetes.io/name": "other"}}),
)
def every_selector_finds_the_pods(manifests: Manifests) -> None:
    labels = manifests.template["metadata"]["labels"]
    matches = [
        manifests["Deployment"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"],
        *(constraint["labelSelector"] for constraint in manifests.pod["topologySpreadConstraints"]),
    ]
    assert manifests["Service"]["spec"]["selector"] == labels
    assert all(match == {"matchLabels": labels} for match in matches)


@broken_by(
    Patch("Service", "/spec/ports/0/targetPort", "web"),
    Patch("Service", "/spec/type", "LoadBalancer"),
    Patch("Service", "/spec/sessionAffinity", "ClientIP"),
)
def the_service_is_for_the_proxy_in_the_cluster(manifests: Manifests) -> None:
    spec = manifests["Service"]["spec"]
    (port,) = spec["ports"]
    assert port["targetPort"] == manifests.container["ports"][0]["name"]
    assert spec.keys() == {"selector", "ports"}


@broken_by(
    Patch("NetworkPolicy", "/spec/policyTypes", ["Egress"]),
    Patch("NetworkPolicy", "/spec/ingress/0/from", [{"namespaceSelector": {}}]),
    Patch("NetworkPolicy", "/spec/ingress/-", {}),
    Patch("NetworkPolicy", "/spec/ingress/0/ports/0/port", 22),
    without("NetworkPolicy", "/spec/ingress/0/ports"),
)
def network_lets_in_the_proxy_to_the_port_and_nothing_else(manifests: Manifests) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    (port,) = manifests.container["ports"]
    allowed = [{"protocol": "TCP", "port": port["containerPort"]}]
    entrance, *others = policy["ingress"]
    (peer,) = entrance["from"]
    assert "Ingress" in policy["policyTypes"]
    assert not others
    assert entrance.get("ports") == allowed
    assert peer["namespaceSelector"].get("matchLabels", {}).keys() == {"kubernetes.io/metadata.name"}


@broken_by(
    Patch("NetworkPolicy", "/spec/policyTypes", ["Ingress"]),
    Patch("NetworkPolicy", "/spec/egress/-", {}),
    Patch("NetworkPolicy", "/spec/egress/-", {"ports": [{"protocol": "TCP", "port": 25}]}),
    without("NetworkPolicy", "/spec/egress/0"),
    without("NetworkPolicy", "/spec/egress/0/to"),
)
def network_lets_out_names_https_and_what_the_settings_name(manifests: Manifests) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    everything = [{"protocol": "any", "port": "any"}]
    out = {(port["protocol"], port["port"]) for way in policy["egress"] for port in way.get("ports", everything)}
    engine = POSTGRESQL if manifests.settings.get("HOLDFAST_STORAGE") == "postgresql" else set()
    database = EXASOL if "EXA_DSN" in manifests.settings else set()
    assert "Egress" in policy["policyTypes"]
    assert out == DNS | HTTPS | engine | database
    assert policy["egress"][0].get("to") == [{"namespaceSelector": {"matchLabels": NAMESPACE_OF_DNS}}]


@broken_by(
    Patch("Ingress", "/spec/rules/0/host", "other.example.com"),
    Patch("Ingress", "/spec/tls/0/hosts", ["other.example.com"]),
    without("Ingress", "/spec/tls"),
    Patch("Ingress", "/spec/rules/0/http/paths/0/path", "/mcp"),
    Patch("Ingress", "/spec/rules/0/http/paths/0/backend/service/port/name", "web"),
    of=("mine",),
)
def ingress_serves_the_public_url_over_tls(manifests: Manifests) -> None:
    host = urlsplit(manifests.settings["HOLDFAST_BASE_URL"]).hostname
    spec, service = manifests["Ingress"]["spec"], manifests["Service"]
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}}
    (rule,) = spec["rules"]
    assert rule["host"] == host
    assert [name for tls in spec.get("tls", []) for name in tls["hosts"]] == [host]
    assert rule["http"]["paths"] == [{"path": "/", "pathType": "Prefix", "backend": backend}]


HELD = [(deployment, name) for name, rule in RULES.items() for deployment in rule.deployments]
BROKEN = [(name, patch) for name, rule in RULES.items() for patch in rule.breaks]


@pytest.fixture
def beside(tree: Path, tmp_path: Path) -> Path:
    """Where a new directory may be made beside the deployments."""
    return tree / tmp_path.name


@pytest.mark.parametrize(("deployment", "name"), HELD)
def test_rule_holds(built: dict[str, Manifests], deployment: str, name: str) -> None:
    RULES[name].check(built[deployment])


@pytest.mark.parametrize(("name", "patch"), BROKEN, ids=[f"{name}-{patch.path}" for name, patch in BROKEN])
def test_rule_notices_what_breaks_it(tree: Path, beside: Path, name: str, patch: Patch) -> None:
    rule = RULES[name]
    broken = patch.applied(tree / rule.deployments[0], beside)
    with pytest.raises(AssertionError):
        rule.check(broken)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_kubernetes_knows_every_field_of_every_document(
    built: dict[str, Manifests], deployment: str, version: str
) -> None:
    assert len(built[deployment].documents) >= 7
    for document in built[deployment].documents:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    "patch",
    [
        on_pod("runAsNonRoots", True),
        on_container("ports/0/containerPort", "8000"),
        without("Deployment", "/spec/selector"),
    ],
    ids=lambda patch: patch.path,
)
def test_a_field_that_kubernetes_does_not_know_or_misses_is_noticed(tree: Path, beside: Path, patch: Patch) -> None:
    manifests = patch.applied(tree / "base", beside)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests[patch.kind], NEWEST, strict=True)


WRITTEN_BY_THE_READER = {
    "exa-password": "a password",
    "storage-url": "postgresql://holdfast:a%20password@db.example.com/holdfast?sslmode=verify-full",
}


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the Secret that docs/kubernetes.md makes, of which its reader writes some."""
    directory = tmp_path_factory.mktemp("secret")
    for key, value in WRITTEN_BY_THE_READER.items():
        (directory / key).write_text(value)
    (command,) = re.findall(r"kubectl (create secret generic (?:.*\\\n)*.*)", PAGE)
    made = subprocess.run(
        ["bash", "-euc", f"{KUBECTL} {command} --dry-run=client --output=json"],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "KUBECONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        check=True,
    )
    keys = json.loads(made.stdout)["data"]
    assert keys.keys() > WRITTEN_BY_THE_READER.keys()
    for key, value in keys.items():
        (directory / key).write_bytes(base64.b64decode(value))
    return directory


def test_the_page_names_the_certificate_that_the_ingress_takes(built: dict[str, Manifests]) -> None:
    (tls,) = built["mine"]["Ingress"]["spec"]["tls"]
    assert re.findall(r"kubectl create secret tls (\S+) --namespace (\S+)", PAGE) == [(tls["secretName"], "holdfast")]


def problems_of(manifests: Manifests, secret: Path) -> list[str]:
    """What the server complains of with these settings and secrets."""
    environ = {name: value.replace(SECRETS, str(secret)) for name, value in manifests.settings.items()}
    environment, problems = read_environment(environ)
    return [str(problem) for problem in [*problems, *load_settings(environment)[1]]]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_server_accepts_the_settings_and_the_secrets_that_the_page_makes(
    built: dict[str, Manifests], deployment: str, secret: Path
) -> None:
    assert problems_of(built[deployment], secret) == []


def test_an_empty_setting_takes_the_pin_away(tree: Path, beside: Path, secret: Path) -> None:
    manifests = Patch("ConfigMap", "/data/HOLDFAST_PIN_FILE", "").applied(tree / "base", beside)
    assert problems_of(manifests, secret) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDFAST_PORT", "tcp://10.0.0.1:80"),
        ("HOLDFAST_BASE_URL", "http://mcp.example.com"),
        ("HOLDFAST_PIN_FILE", f"{SECRETS}/other"),
    ],
)
def test_a_setting_that_the_server_refuses_is_noticed(
    tree: Path, beside: Path, secret: Path, name: str, value: str
) -> None:
    manifests = Patch("ConfigMap", f"/data/{name}", value).applied(tree / "base", beside)
    assert any(problem.startswith(f"{name}: ") for problem in problems_of(manifests, secret))


def test_another_setting_is_another_pod(tree: Path, beside: Path, built: dict[str, Manifests]) -> None:
    shutil.copytree(tree / "base", beside)
    with (beside / "settings.env").open("a") as settings:
        settings.write("LOG_LEVEL=debug\n")
    assert Manifests.build(beside).template != built["base"].template


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_no_secret_is_in_the_tree(built: dict[str, Manifests], deployment: str) -> None:
    assert "Secret" not in built[deployment]
