"""What an endpoint's state says of peers that are none, and of nobody there."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable

import pytest
import zmq

from gateway.bus import subscriber as module
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.subscriber import Mode, Subscriber
from gateway.config.model import Bus
from tests.support.addresses import free_tcp
from tests.support.waiting import eventually


Context = zmq.Context["zmq.Socket[bytes]"]


class Watched:
    """A subscriber, and what it reported."""

    def __init__(self, context: Context, endpoint: str, mode: Mode, config: Bus) -> None:
        self.changes: list[tuple[str, str]] = []
        self.messages: list[Frames] = []
        self.subscriber = Subscriber(
            context,
            endpoint,
            mode,
            config,
            Curve(context, config),
            on_messages=self.messages.extend,
            on_change=lambda one, change: self.changes.append((change, one.problem)),
        )

    def changed_since(self, seen: int) -> bool:
        return len(self.changes) > seen

    async def reported(self, change: str, problem: str = "") -> None:
        await eventually(
            lambda: any(change == was and problem in why for was, why in self.changes),
            saying=lambda: f"{change}: {problem} in {self.changes}",
        )


Watch = Callable[..., Watched]


@pytest.fixture
async def context() -> AsyncIterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
async def watch(context: Context) -> AsyncIterator[Watch]:
    """Open a subscriber: ``watch(endpoint, "bind")``."""
    opened: list[Watched] = []

    def make(endpoint: str, mode: Mode, **config: object) -> Watched:
        opened.append(Watched(context, endpoint, mode, Bus(**config)))  # type: ignore[arg-type]
        opened[-1].subscriber.open()
        return opened[-1]

    yield make
    for one in opened:
        one.subscriber.close()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [(zmq.PUSH, "is a PUSH socket"), (zmq.ROUTER, "is a ROUTER socket"), (zmq.SUB, "perhaps another gateway")],
)
async def test_a_wrong_kind_of_socket_is_named_where_the_gateway_connects(
    kind: int, problem: str, context: Context, watch: Watch
) -> None:
    with context.socket(kind) as peer:
        peer.bind("tcp://127.0.0.1:*")
        link = watch(peer.getsockopt_string(zmq.LAST_ENDPOINT), "connect")
        await link.reported("refused", problem)

        assert (link.subscriber.state, link.subscriber.peers) == ("refused", 0)


async def test_a_wrong_kind_of_socket_takes_no_publisher_away_where_the_gateway_binds(
    context: Context, watch: Watch
) -> None:
    link = watch(free_tcp(), "bind")
    with context.socket(zmq.PUB) as publisher:
        publisher.connect(link.subscriber.endpoint)
        await link.reported("up")
        for _ in range(2):
            with context.socket(zmq.PUSH) as wrong:
                wrong.connect(link.subscriber.endpoint)
                await eventually(functools.partial(link.changed_since, len(link.changes)))

        assert {change for change, _ in link.changes[1:]} == {"refused"}
        assert "neither a PUB nor an XPUB" in link.subscriber.problem
        assert (link.subscriber.state, link.subscriber.peers) == ("connected", 1)


async def test_nobody_at_an_endpoint_is_reported_with_the_reason(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_SECONDS", 0.0)
    there, here = watch(free_tcp(), "connect"), watch(free_tcp(), "bind")
    for one in (there, here):
        one.subscriber.poll()
    await there.reported("waiting", "Connection refused")
    await here.reported("waiting")

    assert (there.subscriber.state, here.subscriber.state) == ("connecting", "listening")
