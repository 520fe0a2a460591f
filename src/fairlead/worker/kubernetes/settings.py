"""Where a fleet's Kubernetes cluster is."""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts what a pod needs to speak to it."""


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The `[kubernetes]` table. The defaults are right for a gateway that is a pod itself."""

    api: str = "https://kubernetes.default.svc"
    """The API server."""
    namespace: str = ""
    """Of the Deployments; empty takes the one of the gateway's pod."""
    token_file: str = f"{ACCOUNT}/token"
    """Read again before it gets old: Kubernetes replaces it every hour."""
    ca_file: str = f"{ACCOUNT}/ca.crt"
    """Certificate authorities of the API server."""
    namespace_file: str = f"{ACCOUNT}/namespace"
    check_s: float = 10.0
    """Between two looks at whether pods wait for room."""

    def __post_init__(self) -> None:
        if not self.api.startswith(("https://", "http://")):
            raise ValueError(f"api must begin with https:// or http://, got {self.api!r}")
        if not 0 < self.check_s < float("inf"):
            raise ValueError(f"check_s must be positive and finite, got {self.check_s:g}")
