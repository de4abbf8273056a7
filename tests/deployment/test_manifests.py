"""The manifests say the same as the program: its port, its probes, its settings, and never a model's version."""

import re
import shutil
import tomllib
from ipaddress import ip_address, ip_network

import pytest
import yaml

from gateway.api import health
from gateway.api.browser_guard import BrowserGuard
from gateway.settings import Settings, environment_name, load_settings
from tests.deployment.tools import ROOT, run_tool

ADMIN_TOKEN = "TITLEBOUT_ADMIN_TOKEN"
SETTING_NAMES = {environment_name(field) for field in Settings.__struct_fields__}
UNITS = {"": 1, "m": 1024**2, "Mi": 1024**2, "Gi": 1024**3}


def bytes_of(quantity):
    number, unit = re.fullmatch(r"(\d+)(\w*)", quantity).groups()
    return int(number) * UNITS[unit]


def selects(selector, labels):
    return selector.items() <= labels.items()


def opened(policies, labels):
    """The ports that pods with *labels* may call."""
    rules = [policy["egress"] for policy in policies if selects(policy["podSelector"]["matchLabels"], labels)]
    return {port["port"] for rule in rules for way in rule for port in way["ports"]}


def with_component(name, folder):
    """A copy of the manifests in which staging has the component."""
    shutil.copytree(ROOT / "k8s", folder / "k8s")
    kustomization = folder / "k8s/overlays/staging/kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + f"\ncomponents: [../../components/{name}]\n")
    return kustomization.parent


def secret_references(pod):
    return {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for container in pod["spec"]["containers"]
        for entry in container["env"]
    }


def test_each_overlay_is_valid_kubernetes(overlay, tmp_path):
    rendered = tmp_path / f"{overlay.name}.yaml"
    rendered.write_text(overlay.text)
    judged = run_tool("kubernetes-validate", "--strict", rendered)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_secrets_template_is_valid_and_is_never_applied_by_itself(overlay):
    judged = run_tool("kubernetes-validate", "--strict", "k8s/secret.example.yaml")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert overlay.all("Secret") == []


def test_the_server_listens_where_probes_service_and_ingress_look(overlay):
    (port,) = overlay.server["ports"]
    assert port["containerPort"] == Settings().port == int(overlay.settings["TITLEBOUT_PORT"])
    (service_port,) = overlay.one("Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    for ingress in overlay.all("Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            assert path["backend"]["service"]["name"] == overlay.one("Service")["metadata"]["name"]
            assert path["backend"]["service"]["port"]["name"] == service_port["name"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert overlay.server[probe]["httpGet"]["port"] == port["name"]


def test_probes_ask_paths_that_the_server_answers(overlay):
    answered = {path for handler in health.handlers for path in handler.paths}
    asked = {name: overlay.server[name]["httpGet"]["path"] for name in overlay.server if name.endswith("Probe")}
    assert asked == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert set(asked.values()) <= answered


def test_probes_and_ingress_name_hosts_that_the_server_answers(overlay):
    guard = BrowserGuard("0.0.0.0", overlay.settings["TITLEBOUT_ALLOWED_HOSTS"].split(","))
    hosts = [ingress["spec"]["rules"][0]["host"] for ingress in overlay.all("Ingress")]
    hosts += [
        header["value"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
        for header in overlay.server[name]["httpGet"]["httpHeaders"]
    ]
    service, namespace = overlay.one("Service")["metadata"]["name"], overlay.one("Namespace")["metadata"]["name"]
    hosts += [service, f"{service}.{namespace}", f"{service}.{namespace}.svc.cluster.local"]
    for host in hosts:
        guard.check("GET", "/health", {b"host": host.encode()})


def test_every_setting_is_one_that_the_program_reads(overlay):
    named = set(overlay.settings) | {name for pod in overlay.pods for name in secret_references(pod)}
    assert {name for name in named if name.startswith("TITLEBOUT_")} <= SETTING_NAMES
    settings = load_settings(environment=overlay.settings)
    assert settings.artifact_root.startswith("s3://")


def test_no_model_version_is_written_anywhere(overlay):
    written = [path.read_text() for path in (ROOT / "k8s").rglob("*.yaml")]
    for text in [overlay.text, *written]:
        assert "MODEL_VERSION" not in text.upper()
        for uri in re.findall(r"models:/\S+", text):
            assert re.fullmatch(r"models:/[^/@]+@[\w-]+", uri), f"{uri} names no alias"


def test_the_image_has_the_version_of_the_program(overlay):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for pod in overlay.pods for container in pod["spec"]["containers"]}
    assert images == {f"registry.example.com/titlebout:{version}"}


def test_credentials_come_from_secrets_whose_keys_the_template_names(overlay):
    template = yaml.safe_load((ROOT / "k8s/secret.example.yaml").read_text())
    server, migration = (secret_references(pod) for pod in overlay.pods)
    optional = {"TITLEBOUT_OIDC_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert set(server) == {"TITLEBOUT_DATABASE_URL", ADMIN_TOKEN} | optional
    # What only the server needs, the migration isn't given.
    assert set(migration) == {"TITLEBOUT_DATABASE_URL"}
    assert not any(reference.get("optional") for reference in (server[ADMIN_TOKEN], server["TITLEBOUT_DATABASE_URL"]))
    for reference in [*server.values(), *migration.values()]:
        assert reference["name"] == template["metadata"]["name"]
        assert reference["key"] in template["stringData"]
    assert not {name for name in overlay.settings if re.search("KEY|URL|TOKEN|SECRET|PASSWORD", name)}


def test_pods_keep_to_the_restricted_pod_security_standard(overlay):
    labels = overlay.one("Namespace")["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {"restricted"}
    for pod in overlay.pods:
        spec = pod["spec"]
        # No namespace, path or port of the machine's, no other user, no kernel parameter.
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & spec.keys()
        assert not any("hostPort" in port for container in spec["containers"] for port in container.get("ports", []))
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["fsGroup"] == context["runAsGroup"] == context["runAsUser"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "sysctls" not in context
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts == {overlay.settings["TITLEBOUT_DATA"], "/tmp"}
            assert container["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}
        assert all(volume.keys() == {"name", "emptyDir"} and volume["emptyDir"] for volume in spec["volumes"])


def test_pods_hold_no_token_and_no_environment_that_services_would_add(overlay):
    assert overlay.one("ServiceAccount")["automountServiceAccountToken"] is False
    for pod in overlay.pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        # A Service named titlebout gives TITLEBOUT_PORT=tcp://10.0.0.1:80, which is our setting's name.
        assert pod["spec"]["enableServiceLinks"] is False


def test_everything_that_selects_the_server_selects_it_and_not_the_migration(overlay):
    server, migration = (pod["metadata"]["labels"] for pod in overlay.pods)
    callers = next(each for each in overlay.all("NetworkPolicy") if each["metadata"]["name"] == "titlebout-callers")
    selectors = [
        overlay.one("Deployment")["spec"]["selector"]["matchLabels"],
        overlay.one("Service")["spec"]["selector"],
        overlay.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        callers["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in overlay.pods[0]["spec"]["topologySpreadConstraints"]),
    ]
    assert all(selects(selector, server) for selector in selectors)
    assert not any(selects(selector, migration) for selector in selectors)
    target = overlay.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == overlay.one("Deployment")["metadata"]["name"]
    assert "replicas" not in overlay.one("Deployment")["spec"]


def test_the_network_is_closed_except_where_it_is_opened(overlay):
    policies = {each["metadata"]["name"]: each["spec"] for each in overlay.all("NetworkPolicy")}
    assert policies.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (callers,) = policies.pop("titlebout-callers")["ingress"]
    assert callers["ports"] == [{"protocol": "TCP", "port": overlay.server["ports"][0]["name"]}]
    assert len(callers["from"]) == 3
    # One list item each, and so "and": with two it would be any pod of that name in any namespace.
    assert [place.keys() for place in callers["from"][:2]] == [{"namespaceSelector", "podSelector"}] * 2

    server, migration = (pod["metadata"]["labels"] for pod in overlay.pods)
    assert opened(policies.values(), server) == {53, 5432, 443}
    assert opened(policies.values(), migration) == {53, 5432}
    assert all(rule["to"] for policy in policies.values() for rule in policy["egress"])


def test_no_pod_reaches_the_metadata_of_its_machine(overlay):
    for policy in overlay.all("NetworkPolicy"):
        for place in (place for rule in policy["spec"].get("egress", []) for place in rule["to"] if "ipBlock" in place):
            network, excepted = ip_network(place["ipBlock"]["cidr"]), place["ipBlock"].get("except", [])
            for metadata in map(ip_address, ("169.254.169.254", "169.254.170.2", "fe80::a9fe:a9fe")):
                assert metadata not in network or any(metadata in ip_network(other) for other in excepted)


def test_webhooks_have_a_way_of_their_own_for_who_narrows_the_buckets(tmp_path):
    rendered = run_tool("kubectl", "kustomize", with_component("webhooks", tmp_path))
    assert rendered.returncode == 0, rendered.stderr
    (policy,) = [
        each for each in yaml.safe_load_all(rendered.stdout) if each["metadata"]["name"] == "titlebout-webhooks"
    ]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    assert run_tool("kubernetes-validate", "--strict", tmp_path / "policy.yaml").returncode == 0
    blocks = [place["ipBlock"] for place in policy["spec"]["egress"][0]["to"]]
    reached = [
        address
        for address in (
            "8.8.8.8",
            "2606:4700::1",
            "10.0.0.1",
            "172.20.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "fd00::1",
        )
        if any(
            ip_address(address) in ip_network(block["cidr"])
            and not any(ip_address(address) in ip_network(other) for other in block.get("except", []))
            for block in blocks
        )
    ]
    assert reached == ["8.8.8.8", "2606:4700::1"]


def test_requests_in_flight_have_time_to_finish_after_load_balancers_have_looked_elsewhere(overlay):
    settings = load_settings(environment=overlay.settings)
    pod = overlay.one("Deployment")["spec"]["template"]["spec"]
    # A worker that ends late is killed 5 s after its time, and so is a host.
    assert pod["terminationGracePeriodSeconds"] > settings.stop_notice_s + settings.drain_timeout_s + 10
    probe = overlay.server["readinessProbe"]
    assert settings.stop_notice_s > probe["periodSeconds"] * probe["failureThreshold"]
    assert settings.idle_grace_s <= settings.drain_timeout_s
    # One way to wait and not two: the server's own answers on, and tells connections to go.
    assert "lifecycle" not in overlay.server


def test_bounds_outside_the_program_leave_room_for_its_own(overlay):
    settings = load_settings(environment=overlay.settings)
    volumes = {volume["name"]: volume["emptyDir"] for volume in overlay.pods[0]["spec"]["volumes"]}
    assert bytes_of(volumes["data"]["sizeLimit"]) > settings.cache_bytes_max
    ingresses = {each["metadata"]["name"]: each for each in overlay.all("Ingress")}
    annotation = "nginx.ingress.kubernetes.io/proxy-body-size"
    assert bytes_of(ingresses["titlebout-scoring"]["metadata"]["annotations"][annotation]) >= settings.body_bytes_max
    assert ingresses["titlebout-api"]["metadata"]["annotations"][annotation] == "0"


def test_nothing_opens_the_door(overlay):
    assert overlay.server["args"] == ["serve", "--host", "0.0.0.0"]
    for path in ("Dockerfile", "compose.yaml", "k8s"):
        files = [ROOT / path] if (ROOT / path).is_file() else (ROOT / path).rglob("*.yaml")
        assert not any("insecure" in file.read_text().lower() for file in files)


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_what_is_tried_in_staging_is_what_runs_in_production(kind):
    rendered = [
        next(
            document
            for document in yaml.safe_load_all(run_tool("kubectl", "kustomize", f"k8s/overlays/{name}").stdout)
            if document["kind"] == kind
        )
        for name in ("staging", "production")
    ]
    images = [each["spec"]["template"]["spec"]["containers"][0]["image"] for each in rendered]
    assert images[0] == images[1]
