"""The steps in a world, and the check that everything is accounted for in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.protocol.events import set_clock_offset
from tests.simulation.hostile import publish_hostile, vanish
from tests.simulation.world import STREAMS_ENOUGH, TOPICS, Client, World
from tests.support.core import SECOND


Act = Callable[[Any], None]

STEPS = 70
HOUR = 3600 * SECOND


def run(seed: int, *, steps: int = STEPS) -> tuple[str | None, list[str]]:
    """Run one world to its end.

    Returns the fault (an event was lost, or delivered twice or out of order; None if there is none)
    and the steps.
    """
    set_clock_offset(0)
    return play(World(seed), ACTS, steps=steps)


def play(world: World, weighted: list[tuple[Act, int]], *, steps: int) -> tuple[str | None, list[str]]:
    acts = [act for act, weight in weighted for _ in range(weight)]
    try:
        for _ in range(steps):
            act = world.random.choice(acts)
            world.say(act.__name__)
            act(world)
            world.go_on()
        world.say("settle")
        settle(world)
        check(world)
    except AssertionError as fault:
        return str(fault) or "an assertion failed", world.trace
    finally:
        world.end()
    return None, world.trace


def publish(world: World) -> None:
    publisher = world.random.choice(world.publishers)
    publisher.publish(world.random.choice(publisher.topics), world.random.randint(1, 6))


def receive(world: World) -> None:
    world.random.choice(world.gateways).receive(world.random.randint(1, 10))


def write(world: World) -> None:
    world.random.choice(world.gateways).write()


def wait(world: World) -> None:
    world.now_ns += round(world.random.choice([0.01, 0.1, 0.6, 3.0]) * SECOND)
    for gateway in world.gateways:
        gateway.expire()


def send_heartbeat(world: World) -> None:
    for publisher in world.publishers:
        publisher.send_heartbeat()


def change_losses(world: World) -> None:
    for gateway in world.gateways:
        gateway.loss = world.random.choice([0.0, 0.0, 0.2, 1.0])
        gateway.twice = world.random.choice([0.0, 0.3])


def set_clock(world: World) -> None:
    """Set the wall clock forward or back: no duration may depend on it."""
    set_clock_offset(world.random.choice([-HOUR, 0, HOUR]))


def mute(world: World) -> None:
    publisher = world.random.choice(world.publishers)
    publisher.mute = not publisher.mute


def restart_publisher(world: World) -> None:
    publisher = world.random.choice(world.publishers)
    if world.random.random() < 0.5:
        publisher.send_heartbeat(farewell=True)
    publisher.begin()


def restart_gateway(world: World) -> None:
    gateway = world.random.choice(world.gateways)
    for client in world.clients:
        if client.gateway is gateway:
            client.disconnect()
    gateway.begin()


def connect(world: World) -> None:
    client = world.random.choice(world.clients)
    if client.gateway is None:
        client.connect(world.random.choice(world.gateways))


def disconnect(world: World) -> None:
    client = world.random.choice(world.clients)
    if client.gateway is not None:
        client.disconnect(flushed=world.random.random() < 0.5)


def subscribe(world: World) -> None:
    client = world.random.choice(world.clients)
    if client.gateway is None or client.patterns:
        return
    pick = world.random
    options: dict[str, object] = {}
    if pick.random() < 0.2:
        options["filter"] = "data.k == 1"
    if pick.random() < 0.2:
        options["rate"] = pick.choice([1, 10])
    if pick.random() < 0.3:
        options["last"] = pick.choice([0, 1, 5])
    client.subscribe(pick.choice([["alpha", "beta"], ["beta"], ["*"], ["alpha"]]), **options)


def stop_reading(world: World) -> None:
    world.random.choice(world.clients).writing_paused = True


def read_on(world: World) -> None:
    client = world.random.choice(world.clients)
    if client.gateway is not None:
        client.read_on()


ACTS: list[tuple[Act, int]] = [
    (publish, 20),
    (receive, 20),
    (write, 6),
    (wait, 8),
    (send_heartbeat, 8),
    (connect, 6),
    (subscribe, 6),
    (read_on, 6),
    (disconnect, 3),
    (stop_reading, 3),
    (change_losses, 3),
    (mute, 1),
    (set_clock, 1),
    (publish_hostile, 2),
    (vanish, 1),
    (restart_publisher, 1),
    (restart_gateway, 1),
]


def settle(world: World) -> None:
    """Finish: no more loss, all clients read, and heartbeats show what is missing."""
    world.heal()
    for client in world.clients:
        if client.gateway is None:
            client.connect(world.gateways[0])
    world.go_on()
    for _ in range(8):
        for publisher in world.publishers:
            # Without heartbeats, and where streams were forgotten, the next message shows a loss.
            if not publisher.sends_heartbeats or world.streams_max < STREAMS_ENOUGH:
                for topic in publisher.topics:
                    publisher.publish(topic, 1)
        send_heartbeat(world)
        world.go_on()
        for gateway in world.gateways:
            while gateway.arriving or gateway.replies:
                gateway.receive(1000)
        world.now_ns += SECOND
        for gateway in world.gateways:
            gateway.expire()
            gateway.write()
            gateway.flush()
        for client in world.clients:
            while client.writing_paused:
                client.read_on()
    world.now_ns += 2 * SECOND
    world.go_on()
    for gateway in world.gateways:
        gateway.write()
        gateway.flush()  # what the rates hold back
    for client in world.clients:
        while client.writing_paused:
            client.read_on()


def check(world: World) -> None:
    """Compare each client's account with what was published."""
    assert not world.faults, world.faults[0]
    for gateway in world.gateways:
        recovery = gateway.hub.pipeline.ingest.recovery
        assert recovery.recovering == recovery.held == 0, "a stream is still recovering"
        assert not gateway.hub.fanout.lagging
        assert not gateway.hub.fanout.pending
        for reader in gateway.hub.fanout.waiting:
            assert gateway.hub.fanout._is_ahead(reader, gateway.hub.fanout.logs_of(reader)), (
                "a reader waits without a reason"
            )
    world.check()
    for client in world.clients:
        for topic in TOPICS:
            account = client.accounts.get(topic)
            if account is not None and client.patterns:
                _check(world, client, topic)


def _check(world: World, client: Client, topic: str) -> None:
    account = client.accounts[topic]
    living = {publisher.incarnation for publisher in world.publishers}
    for incarnation in world.truth[topic].keys() - living:
        assert client.gateway is not None
        if (topic, incarnation) in client.gateway.known or account.knows(incarnation):
            account.excuse_end(incarnation, living)
        else:
            account.ends[incarnation] = 0  # neither the client nor its gateway ever heard of it
    missing = {
        incarnation: found
        for incarnation, newest in world.truth[topic].items()
        if (found := account.missing(incarnation, newest))
    }
    unaccounted = sum(map(len, missing.values()))
    assert unaccounted <= account.counted, f"{client.name} on {topic} misses {missing}"
