"""What a gateway and its broker say to each other: a line of JSON each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from fairlead.worker.settings import WorkerSettings


class Order(Struct, frozen=True, tag=True):
    """From the gateway."""


class Start(Order, frozen=True):
    """A worker is to live, in an actor that takes `resources` of one node."""

    life: int
    settings: WorkerSettings
    token: str
    num_cpus: float
    num_gpus: float
    resources: Mapping[str, float]


class DrainLife(Order, frozen=True):
    life: int


class KillLife(Order, frozen=True):
    life: int


class News(Struct, frozen=True, tag=True):
    """From the broker."""


class Connected(News, frozen=True):
    """The cluster was joined."""

    nodes: tuple[str, ...]
    """Addresses of the nodes that live, the broker's own first."""


class NotConnected(News, frozen=True):
    why: str


class Said(News, frozen=True):
    life: int
    line: str


class NoRoom(News, frozen=True):
    """No node has room for it now; empty once one has."""

    life: int
    why: str


class Over(News, frozen=True):
    life: int
    status: int
    how: str
    lost: bool = False


AnyOrder = Start | DrainLife | KillLife
AnyNews = Connected | NotConnected | Said | NoRoom | Over

_encoder = msgspec.json.Encoder()
_orders: msgspec.json.Decoder[AnyOrder] = msgspec.json.Decoder(AnyOrder)
_news: msgspec.json.Decoder[AnyNews] = msgspec.json.Decoder(AnyNews)


def write(message: AnyOrder | AnyNews) -> bytes:
    return _encoder.encode(message) + b"\n"


def read_order(line: bytes) -> AnyOrder:
    return _orders.decode(line)


def read_news(line: bytes) -> AnyNews:
    return _news.decode(line)
