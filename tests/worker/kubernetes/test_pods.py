"""Numbers of pods, against a fake API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.model import ConfigError, InstanceId, InstanceSpec
from fairlead.worker.kubernetes import pods
from fairlead.worker.kubernetes.api import ApiServer
from fairlead.worker.kubernetes.pods import PodPool, Pods
from fairlead.worker.kubernetes.settings import KubernetesSettings
from tests.fake_kubernetes import TOKEN, FakeKubernetes, serving
from tests.patience import PATIENCE_S

SCALE = "/apis/apps/v1/namespaces/ai/deployments/chat/scale"


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with serving(FakeKubernetes()) as fake:
        yield fake


def settings_for(fake: FakeKubernetes, folder: Path, token: str = TOKEN) -> KubernetesSettings:
    (folder / "token").write_text(f"{token}\n")
    return KubernetesSettings(
        api=fake.url, namespace="ai", token_file=str(folder / "token"), check_s=0.05
    )


class World:
    """A provisioner at work, and what it said."""

    def __init__(self, settings: KubernetesSettings, instances: int, deployment: str) -> None:
        self.told: list[str] = []
        self.unplaced: list[int] = []
        self.pods = Pods(
            ApiServer(settings),
            [PodPool("chat", deployment, instances)],
            tell=self.told.append,
            unplaced=lambda pool, n: self.unplaced.append(n),
            check_s=settings.check_s,
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.pods.run())
        try:
            yield
        finally:
            await self.pods.stop(1.0)
            await task


def world(fake: FakeKubernetes, folder: Path, n: int = 2, deployment: str = "chat") -> World:
    return World(settings_for(fake, folder), n, deployment)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def spec(pod: str, incarnation: str = "1") -> InstanceSpec:
    return InstanceSpec(
        id=InstanceId(pod),
        pool="chat",
        model="m",
        n_blocks=8,
        block_tokens=16,
        max_sequences=8,
        max_waiting=8,
        max_context=128,
        latency={},
        incarnation=incarnation,
    )


async def test_a_deployment_gets_as_many_pods_as_the_fleet_wants(
    fake: FakeKubernetes, tmp_path: Path
) -> None:
    w = world(fake, tmp_path)
    async with w.at_work():
        await until(lambda: fake.replicas["chat"] == 2)
        w.pods.scale("chat", 5)
        w.pods.scale("of somebody else", 9)
        await until(lambda: len(fake.pods) == 5)
    assert "pool chat: Deployment chat set to 5 pods" in w.told
    assert fake.calls.count(f"PATCH {SCALE}") == 2, "told once each"


async def test_a_gateway_that_comes_back_takes_no_pods_away(
    fake: FakeKubernetes, tmp_path: Path
) -> None:
    fake.replicas["chat"] = 6
    w = world(fake, tmp_path)
    async with w.at_work():
        await until(lambda: len(fake.calls) > 3)
        w.pods.scale("chat", 3)  # What it believes before the six have joined.
        await asyncio.sleep(0.2)
    assert fake.replicas["chat"] == 6


async def test_the_emptied_pod_is_the_one_that_goes_and_only_once(
    fake: FakeKubernetes, tmp_path: Path
) -> None:
    w = world(fake, tmp_path, 3)
    async with w.at_work():
        await until(lambda: len(fake.pods) == 3)
        first, second, third = (pod.name for pod in fake.pods)
        for _ in range(3):  # The fleet says so until it is gone.
            w.pods.ending(spec(second))
            await asyncio.sleep(0.1)
        assert [pod.name for pod in fake.pods] == [first, third]
        assert fake.replicas["chat"] == 2
        w.pods.ending(spec(first))
        w.pods.ending(spec(first, "2"))  # Started again in the same pod, and too many again.
        await until(lambda: fake.replicas["chat"] == 0)


async def test_a_worker_by_another_name_leaves_the_choice_to_kubernetes(
    fake: FakeKubernetes, tmp_path: Path
) -> None:
    w = world(fake, tmp_path)
    async with w.at_work():
        await until(lambda: len(fake.pods) == 2)
        w.pods.ending(spec("somebody"))
        await until(lambda: len(fake.pods) == 1)
    assert "pool chat: no pod somebody; Kubernetes chooses which one goes" in w.told


async def test_pods_without_room_are_told_and_can_be_taken_back(
    fake: FakeKubernetes, tmp_path: Path
) -> None:
    fake.room = 2
    w = world(fake, tmp_path)
    async with w.at_work():
        w.pods.scale("chat", 4)
        await until(lambda: w.unplaced == [2])
        said = "pool chat: 2 of 4 pods have no room: 0/2 nodes are available: 2 Insufficient"
        assert any(line.startswith(said) for line in w.told)
        w.pods.scale("chat", 1)  # No more than what waits: who runs goes by `ending`.
        await until(lambda: w.unplaced == [2, 0])
        assert fake.replicas["chat"] == 2
        assert all(pod.has_room for pod in fake.pods)


async def test_what_fails_later_is_told_and_tried_again(
    fake: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "FIRST_RETRY_S", 0.01)
    w = world(fake, tmp_path)
    async with w.at_work():
        await until(lambda: len(fake.pods) == 2)
        fake.refuse = [(409, "the object has been modified"), (500, "etcd is away")]
        w.pods.scale("chat", 3)
        await until(lambda: len(fake.pods) == 3)
    assert any("409 the object has been modified; trying again" in line for line in w.told)


async def test_a_new_token_is_read_without_a_restart(fake: FakeKubernetes, tmp_path: Path) -> None:
    w = world(fake, tmp_path)
    async with w.at_work():
        await until(lambda: len(fake.pods) == 2)
        (tmp_path / "token").write_text("too old")
        await until(lambda: any("401" in line for line in w.told))
        (tmp_path / "token").write_text(TOKEN)
        w.pods.scale("chat", 3)
        await until(lambda: len(fake.pods) == 3)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, 'User "x" cannot get resource "deployments/scale"'), "needs a Role that allows"),
        ((401, "Unauthorized"), "is not one of this cluster"),
        ((404, 'deployments.apps "chat" not found'), "expected a Deployment by the name"),
    ],
)
async def test_what_fails_at_the_start_is_one_message(
    fake: FakeKubernetes, tmp_path: Path, refusal: tuple[int, str], message: str
) -> None:
    fake.refuse = [refusal]
    with pytest.raises(ConfigError) as caught:
        await world(fake, tmp_path).pods.run()
    assert str(caught.value).startswith(
        f"pool 'chat' cannot be scaled: GET {SCALE}: {refusal[0]} {refusal[1]}; "
    )
    assert message in str(caught.value)


async def test_a_server_that_is_not_there_or_is_no_api_server_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    nowhere = KubernetesSettings(
        api="http://127.0.0.1:1", namespace="ai", token_file=str(tmp_path / "token")
    )
    with pytest.raises(ConfigError, match=r"no answer from the API server http://127\.0\.0\.1:1"):
        await World(nowhere, 1, "chat").pods.run()


def test_a_missing_token_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ApiServer(KubernetesSettings(token_file=str(tmp_path / "no-token")))
    assert "cannot read kubernetes.token_file" in str(caught.value)
    assert "a gateway that is no pod needs kubernetes.api, namespace, token_file" in str(
        caught.value
    )
    (tmp_path / "token").write_text("x")
    with pytest.raises(ConfigError, match=r"kubernetes.ca_file .*no-ca: No such file"):
        ApiServer(
            KubernetesSettings(token_file=str(tmp_path / "token"), ca_file=f"{tmp_path}/no-ca")
        )
    with pytest.raises(ConfigError, match=r"set kubernetes.namespace, or"):
        ApiServer(
            KubernetesSettings(
                api="http://h",
                token_file=str(tmp_path / "token"),
                namespace_file=str(tmp_path / "nowhere"),
            )
        )
