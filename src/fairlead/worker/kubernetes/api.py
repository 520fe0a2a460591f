"""The few calls of Kubernetes' API that numbers of pods take."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from fairlead.model import ConfigError
from fairlead.worker.kubernetes.settings import KubernetesSettings

CALL_S = 10.0
MERGE = "application/merge-patch+json"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Of two pods that could go, Kubernetes takes the one that this makes cheaper."""


class ApiError(Exception):
    """The API server would not, or is not there; the message is for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """0 where there was no answer."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the scale subresource says."""

    replicas: int
    """Pods that there should be."""
    selector: str
    """Finds them."""


class ApiServer:
    """One namespace of a cluster."""

    def __init__(self, settings: KubernetesSettings) -> None:
        """Raises `ConfigError` where a file that is needed is missing."""
        self._settings = settings
        self._token()
        self._tls = _trust(settings)
        self.namespace = settings.namespace or _read(
            settings.namespace_file, "kubernetes.namespace_file", "kubernetes.namespace"
        )
        self._session: aiohttp.ClientSession | None = None

    async def scale(self, deployment: str) -> Scale:
        return _scale(await self._call("GET", self._deployment(deployment)))

    async def set_scale(self, deployment: str, n: int) -> Scale:
        """From now on there should be `n` pods."""
        patch = {"spec": {"replicas": n}}
        return _scale(await self._call("PATCH", self._deployment(deployment), patch))

    async def prefer_to_delete(self, pod: str) -> None:
        """When pods are too many, this one is the first to go."""
        patch = {"metadata": {"annotations": {DELETION_COST: "-1000"}}}
        await self._call("PATCH", f"{self._pods}/{quote(pod, safe='')}", patch)

    async def without_room(self, selector: str) -> Sequence[str]:
        """Why each pod waits that the cluster has no node for."""
        answer = await self._call("GET", f"{self._pods}?labelSelector={quote(selector, safe='')}")
        return [why for pod in answer.get("items", ()) if (why := _no_room(pod))]

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def _deployment(self, name: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{quote(name, safe='')}/scale"

    def _token(self) -> str:
        return _read(self._settings.token_file, "kubernetes.token_file")

    async def _call(self, verb: str, path: str, patch: Mapping[str, Any] | None = None) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=CALL_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        headers = {"authorization": f"Bearer {self._token()}", "accept": "application/json"}
        if patch is not None:
            headers["content-type"] = MERGE
        url = self._settings.api.rstrip("/") + path
        try:
            async with self._session.request(
                verb, _as_is(url), json=patch, headers=headers, ssl=self._tls
            ) as answer:
                body = await answer.json(content_type=None)
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            raise ApiError(
                0, f"no answer from the API server {self._settings.api}: {said}"
            ) from None
        except ValueError:
            raise ApiError(
                0, f"{self._settings.api} does not answer in JSON; is it an API server?"
            ) from None
        if status >= 300 or not isinstance(body, dict):
            raise ApiError(status, self._refusal(status, verb, path, body))
        return body

    def _refusal(self, status: int, verb: str, path: str, body: Any) -> str:
        said = body.get("message", "") if isinstance(body, dict) else ""
        what = f"{verb} {urlsplit(path).path}: {status} {said}".rstrip()
        advice = _ADVICE.get(status)
        return f"{what}; {advice}" if advice else what


_ADVICE = {
    401: "the token of kubernetes.token_file is not one of this cluster",
    403: "the gateway's service account needs a Role that allows get and patch of "
    "deployments/scale and patch and list of pods, as in deploy/kubernetes/gateway.yaml",
    404: "expected a Deployment by the name of the pool, or of its `deployment`, in "
    "kubernetes.namespace",
}


def _as_is(url: str) -> Any:
    """What is quoted stays so."""
    from yarl import URL

    return URL(url, encoded=True)


def _scale(body: Mapping[str, Any]) -> Scale:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return Scale(int(spec.get("replicas", 0)), str(status.get("selector", "")))


def _no_room(pod: Mapping[str, Any]) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return str(condition.get("message") or "unschedulable")
    return ""


def _trust(settings: KubernetesSettings) -> ssl.SSLContext | bool:
    if settings.api.startswith("http://"):
        return False
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use kubernetes.ca_file {settings.ca_file}: "
            f"{getattr(error, 'strerror', None) or error}; {_OUTSIDE}"
        ) from None


_OUTSIDE = (
    "a gateway that is no pod needs kubernetes.api, namespace, token_file and ca_file, see "
    "docs/how-to/deploy-kubernetes.md"
)


def _read(path: str, key: str, instead: str = "") -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        hint = f"set {instead}, or: " if instead else ""
        raise ConfigError(f"cannot read {key} {path}: {reason}; {hint}{_OUTSIDE}") from None
    if not text:
        raise ConfigError(f"{key} {path} is empty; {_OUTSIDE}")
    return text
