"""What `deploy/` holds for Kubernetes, against Kubernetes' own schemas and our commands."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cli import worker
from fairlead.cli.provisioners import check_provisioners, worker_setting
from fairlead.cli.serve import gateway_settings
from fairlead.fleet.config import FleetConfig, read_config

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "fairlead"
VERSIONS = ("1.29", "1.37")
"""Of Kubernetes: old and new."""
TWO_POOLS = {
    "pools": [
        {
            "name": name,
            "model": f"/models/{name}",
            "engine": "embedded",
            "instances": i,
            "fleet": "max_context = 4096",
            "args": ["--max-context=4096", "--batching=slack"],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "nodeSelector": {"gpu": "h100"},
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
            "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        }
        for i, name in enumerate(("chat", "code"), 1)
    ]
}

Documents = list[dict[str, Any]]


def plain() -> Documents:
    files = (DEPLOY / "kubernetes" / name for name in ("gateway.yaml", "workers.yaml"))
    return [doc for file in files for doc in yaml.safe_load_all(file.read_text())]


def kustomized() -> Documents:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    made = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return list(yaml.safe_load_all(made))


def chart(values: dict[str, Any] | None = None) -> Documents:
    """Rendered by Helm's own engine."""
    helm = pytest.importorskip("helm_python", reason="needs fairlead[helm]")
    files = helm.Chart.load(CHART).render(values, name="ai", namespace="prod")
    text = "\n---\n".join(files[name] for name in sorted(files))
    return [doc for doc in yaml.safe_load_all(text) if doc]


WAYS = {
    "plain": plain,
    "kustomize": kustomized,
    "chart": chart,
    "chart of two pools": lambda: chart(TWO_POOLS),
}


@pytest.fixture(params=WAYS)
def documents(request: pytest.FixtureRequest) -> Documents:
    return WAYS[request.param]()


def of_kind(documents: Documents, kind: str) -> Documents:
    return [doc for doc in documents if doc["kind"] == kind]


def workers(documents: Documents) -> Documents:
    pods = of_kind(documents, "Deployment")
    return [doc for doc in pods if "replicas" not in doc["spec"]]


def fleet(documents: Documents) -> FleetConfig:
    maps = of_kind(documents, "ConfigMap")
    text = (
        maps[0]["data"]["fleet.toml"]
        if maps
        else (DEPLOY / "kubernetes" / "fleet.toml").read_text()
    )
    return read_config(tomllib.loads(text))


def arguments(deployment: dict[str, Any]) -> argparse.Namespace:
    """What `fairlead worker` makes of a container's arguments; unknown ones end the test."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "worker"
    parser = argparse.ArgumentParser()
    worker.add_parser(parser.add_subparsers())
    return parser.parse_args(container["args"])


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_own_schemas_hold(documents: Documents, version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="needs fairlead[test]")
    assert len(documents) >= 7
    for document in documents:
        schemas.validate(document, version, strict=True)


def test_a_wrong_field_would_be_found() -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="needs fairlead[test]")
    (deployment,) = workers(plain())
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(schemas.ValidationError):
        schemas.validate(deployment, VERSIONS[0], strict=True)


def test_the_fleet_file_and_the_workers_belong_together(documents: Documents) -> None:
    config = fleet(documents)
    check_provisioners(config, 64)
    gateway, settings = gateway_settings(config, "secret")
    by_name = {doc["metadata"]["name"]: doc for doc in workers(documents)}
    assert len(by_name) == len(config.pools)
    for pool in config.pools:
        deployment = by_name[pool.deployment]
        args = arguments(deployment)
        wanted = worker_setting(config, pool.name, 0, "h:1", 0)
        mine = worker._settings(args)
        assert (mine.pool, mine.model, mine.engine) == (pool.name, pool.model, pool.engine)
        assert (mine.batching, mine.max_context) == (wanted.batching, wanted.max_context)
        assert mine.block_tokens == pool.block_tokens
        assert str(args.token_file) == settings.token_file
        assert args.name == "$(POD_NAME)", "the gateway marks pods by their workers' names"
        service, port = args.join.split(":")
        found = next(d for d in of_kind(documents, "Service") if d["metadata"]["name"] == service)
        assert found["spec"]["publishNotReadyAddresses"]
        assert (port, found["spec"]["ports"][0]["port"]) == (
            gateway.workers_listen.split(":")[1],
            int(port),
        )


def test_selectors_find_their_own_pods_and_no_others(documents: Documents) -> None:
    deployments = of_kind(documents, "Deployment")
    labels = [doc["spec"]["template"]["metadata"]["labels"] for doc in deployments]
    for doc in deployments:
        wanted = doc["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= mine.items() for mine in labels) == 1


def test_the_gateway_gets_time_to_drain(documents: Documents) -> None:
    _, settings = gateway_settings(fleet(documents), "secret")
    (gateway,) = (doc for doc in of_kind(documents, "Deployment") if doc not in workers(documents))
    pod = gateway["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= settings.drain_s + 10
    assert gateway["spec"]["strategy"] == {"type": "Recreate"}


def test_the_role_allows_what_the_gateway_does_and_no_more(documents: Documents) -> None:
    """The calls of `worker/kubernetes/api.py`."""
    (role,) = of_kind(documents, "Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        ("apps", "deployments/scale", "get"),
        ("apps", "deployments/scale", "patch"),
        ("", "pods", "list"),
        ("", "pods", "patch"),
    }
    (binding,) = of_kind(documents, "RoleBinding")
    (account,) = of_kind(documents, "ServiceAccount")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    for doc in workers(documents):
        assert doc["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
