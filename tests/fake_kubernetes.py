"""As much of a Kubernetes cluster as a gateway sees, on this machine: an API server with the scale
subresource, the rules by which a Deployment makes and deletes pods, and a kubelet that starts a
container again when it exits. Pods may be real processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "of-the-service-account"
COST = "controller.kubernetes.io/pod-deletion-cost"
Run = Callable[[str], "subprocess.Popen[bytes]"]


@dataclass
class Pod:
    name: str
    has_room: bool
    annotations: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    n_starts: int = 0

    def rank(self) -> tuple[bool, int]:
        """Who goes first, as the ReplicaSet controller has it: without a node before with one,
        then by cost."""
        return (self.has_room, int(self.annotations.get(COST, "0")))


@dataclass
class FakeKubernetes:
    """Served by `serving`; a change by the test takes effect at the next call or beat."""

    run: Run | None = None
    """Starts the container of the pod of this name; None: pods run nothing."""
    room: int = 1000
    """Pods that there are nodes for."""
    replicas: dict[str, int] = field(default_factory=lambda: {"chat": 0})
    pods: list[Pod] = field(default_factory=list)
    leaving: list[Pod] = field(default_factory=list)
    """Deleted, and in their grace period."""
    calls: list[str] = field(default_factory=list)
    refuse: list[tuple[int, str]] = field(default_factory=list)
    """Statuses and messages of the next calls."""
    n_made: int = 0
    url: str = ""
    join: str = ""
    """Where its pods find the gateway."""

    def reconcile(self) -> None:
        """What the controller and the kubelet do all the time."""
        wanted = self.replicas["chat"]
        while len(self.pods) < wanted:
            self.n_made += 1
            self.pods.append(Pod(f"chat-7d4b9-{self.n_made}", False))
        for pod in sorted(self.pods, key=Pod.rank)[: max(len(self.pods) - wanted, 0)]:
            self.pods.remove(pod)
            if pod.process is not None:
                pod.process.terminate()
                self.leaving.append(pod)
        self.leaving = [p for p in self.leaving if p.process and p.process.poll() is None]
        for pod in self.pods:
            pod.has_room = pod.has_room or sum(p.has_room for p in self.pods) < self.room
            if pod.has_room and self.run and (not pod.process or pod.process.poll() is not None):
                pod.process = self.run(pod.name)
                pod.n_starts += 1

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append(f"{request.method} {request.path}")
        if self.refuse:
            return _status(*self.refuse.pop(0))
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        self.reconcile()
        match request.method, request.path.strip("/").split("/"):
            case method, ["apis", "apps", "v1", "namespaces", "ai", "deployments", name, "scale"]:
                return await self._scale(method, name, request)
            case "PATCH", ["api", "v1", "namespaces", "ai", "pods", name]:
                return await self._annotate(name, request)
            case "GET", ["api", "v1", "namespaces", "ai", "pods"]:
                assert request.query["labelSelector"] == "app=fairlead,pool=chat"
                return web.json_response({"kind": "PodList", "items": [*map(_pod, self.pods)]})
        return _status(404, "the server could not find the requested resource")

    async def _scale(self, method: str, name: str, request: web.Request) -> web.Response:
        if name not in self.replicas:
            return _status(404, f'deployments.apps "{name}" not found')
        if method == "PATCH":
            assert request.content_type == "application/merge-patch+json"
            self.replicas[name] = json.loads(await request.text())["spec"]["replicas"]
            self.reconcile()
        return web.json_response(
            {
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {"name": name, "namespace": "ai"},
                "spec": {"replicas": self.replicas[name]},
                "status": {"replicas": len(self.pods), "selector": "app=fairlead,pool=chat"},
            }
        )

    async def _annotate(self, name: str, request: web.Request) -> web.Response:
        pod = next((pod for pod in self.pods if pod.name == name), None)
        if pod is None:
            return _status(404, f'pods "{name}" not found')
        pod.annotations |= json.loads(await request.text())["metadata"]["annotations"]
        return web.json_response(_pod(pod))


def _status(code: int, message: str) -> web.Response:
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "message": message, "code": code}
    return web.json_response(body, status=code)


def _pod(pod: Pod) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "True"}
    if not pod.has_room:
        message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
        condition |= {"status": "False", "reason": "Unschedulable", "message": message}
    return {"metadata": {"name": pod.name}, "status": {"conditions": [condition]}}


@contextmanager
def serving(fake: FakeKubernetes) -> Iterator[FakeKubernetes]:
    """The API server, in a thread of its own."""
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", fake.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        while not stop.is_set():
            fake.reconcile()
            await asyncio.sleep(0.05)
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        for pod in [*fake.pods, *fake.leaving]:
            if pod.process is not None:
                pod.process.kill()
                pod.process.wait()
