"""The steps of a world, and the check at its end that every event was delivered or reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.protocol.events import set_clock_offset
from tests.simulation.hostile import connect_hostile_client, publish_hostile
from tests.simulation.world import STREAMS_ENOUGH, TOPICS, Client, World
from tests.support.core import SECOND


Act = Callable[[Any], None]

STEPS = 70
HOUR = 3600 * SECOND


def run(seed: int, *, steps: int = STEPS) -> tuple[str | None, list[str]]:
    """Run one world to its end.

    Returns the fault, None if there is none, and the steps. A fault is an event that was neither
    delivered nor reported, or was delivered twice or out of order.
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
            world.run_due()
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


def change_wall_clock(world: World) -> None:
    """Set the wall clock one hour forward or back, or right: no duration may depend on it."""
    set_clock_offset(world.random.choice([-HOUR, 0, HOUR]))


def toggle_mute(world: World) -> None:
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
    (toggle_mute, 1),
    (change_wall_clock, 1),
    (publish_hostile, 2),
    (connect_hostile_client, 1),
    (restart_publisher, 1),
    (restart_gateway, 1),
]


def settle(world: World) -> None:
    """End all failures, let all clients read, and send heartbeats, which show what is missing."""
    world.heal()
    for client in world.clients:
        if client.gateway is None:
            client.connect(world.gateways[0])
    world.run_due()
    for _ in range(8):
        for publisher in world.publishers:
            # Without heartbeats, and if the gateway forgot streams, only the next message shows a loss.
            if not publisher.sends_heartbeats or world.streams_max < STREAMS_ENOUGH:
                for topic in publisher.topics:
                    publisher.publish(topic, 1)
        send_heartbeat(world)
        world.run_due()
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
    world.run_due()
    for gateway in world.gateways:
        gateway.write()
        gateway.flush()  # events that wait for a subscription's rate
    for client in world.clients:
        while client.writing_paused:
            client.read_on()


def check(world: World) -> None:
    """Compare each client's account with what was published."""
    assert not world.faults, world.faults[0]
    for gateway in world.gateways:
        recovery = gateway.hub.pipeline.ingest.recovery
        assert recovery.recovering == recovery.held == 0, (
            f"{recovery.recovering} streams are still recovering, with {recovery.held} messages held"
        )
        assert not gateway.hub.fanout.lagging
        assert not gateway.hub.fanout.pending
        for reader in gateway.hub.fanout.waiting:
            assert gateway.hub.fanout._is_ahead(reader, gateway.hub.fanout.logs_of(reader)), (
                "a reader waits though it is not ahead of its logs"
            )
    world.check()
    for client in world.clients:
        for topic in TOPICS:
            account = client.accounts.get(topic)
            if account is not None and client.patterns:
                _check(world, client, topic)


def _check(world: World, client: Client, topic: str) -> None:
    account = client.accounts[topic]
    running = {publisher.incarnation for publisher in world.publishers}
    for incarnation in world.truth[topic].keys() - running:
        assert client.gateway is not None
        if (topic, incarnation) in client.gateway.known or account.knows(incarnation):
            account.excuse_end(incarnation, running)
        else:
            account.ends[incarnation] = 0  # neither the client nor its gateway received anything of it
    missing = {
        incarnation: found
        for incarnation, newest in world.truth[topic].items()
        if (found := account.missing(incarnation, newest))
    }
    unaccounted = sum(map(len, missing.values()))
    assert unaccounted <= account.counted, f"{client.name} lacks {missing} on {topic}, and no gap reports them"
