"""The steps in a world whose gateways are a cluster."""

from __future__ import annotations

from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.events import set_clock_offset
from tests.simulation import schedule
from tests.simulation.cluster_world import NEWS, ClusterClient, ClusterGateway, ClusterWorld
from tests.simulation.engine_server import simulated
from tests.simulation.schedule import STEPS, Act, play


def run_cluster(seed: int, *, steps: int = STEPS) -> tuple[str | None, list[str]]:
    """Run one world to its end; see `gateway.simulation.schedule.run`."""
    set_clock_offset(0)
    world = ClusterWorld(seed)
    with simulated(world.server, lambda: world.now_ns):
        world.go_on()
        return play(world, CLUSTER_ACTS, steps=steps)


def restart_gateway(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    killed = world.random.random() < 0.5
    for client in world.clients:
        if client.gateway is gateway:
            client.disconnect()
    gateway.end(killed=killed)
    gateway.begin()


def connect(world: ClusterWorld) -> None:
    client, gateway = _any_client(world), _any_gateway(world)
    if client.gateway is None and client.is_idle and gateway.ready:
        client.connect(gateway)


def wander(world: ClusterWorld) -> None:
    """Come to another gateway, before the one before has noticed."""
    client, gateway = _any_client(world), _any_gateway(world)
    if client.gateway is not None and client.is_idle and gateway.ready:
        client.leave()
        client.connect(gateway)


def confirm(world: ClusterWorld) -> None:
    client = _any_client(world)
    if client.gateway is not None and not client.writing_paused:
        client.confirm()


def send_to_everyone(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.ready:
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, EVERYONE)


def send_news(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.ready:
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, NEWS)


def subscribe(world: ClusterWorld) -> None:
    client, pick = _any_client(world), world.random
    if client.gateway is not None and not client.patterns:
        options = {"rate": pick.choice([1, 10])} if pick.random() < 0.2 else {}
        client.subscribe(pick.choice([["alpha", NEWS], ["beta", NEWS], [NEWS], ["*"]]), **options)


def send_to_client(world: ClusterWorld) -> None:
    gateway, client = _any_gateway(world), _any_client(world)
    if gateway.ready and client.client_id:
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, client.client_id)


def send_again(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.ready and gateway.is_up and world.failed:
        world.broadcast_again(gateway)


def fail_engine(world: ClusterWorld) -> None:
    world.server.fail()


def start_engine(world: ClusterWorld) -> None:
    """Start the engine again with all that it had, with what a replica had, or with nothing."""
    server = world.server
    if not server.up:
        server.start(world.random.choice([server.data, server.data, server.replica.copy(), server.empty()]))


def fail_over(world: ClusterWorld) -> None:
    world.server.start(world.server.replica.copy())


def flush_engine(world: ClusterWorld) -> None:
    world.server.flush()


def replicate(world: ClusterWorld) -> None:
    world.server.replicate()


def cut_off(world: ClusterWorld) -> None:
    """Cut one gateway off, or let all reach the engine again."""
    gateway, server = _any_gateway(world), world.server
    if server.cut_off:
        server.cut_off.clear()
        server.lose_requests()
    elif gateway.cluster is not None:
        server.cut_off.add(gateway.cluster.id)


def change_engine(world: ClusterWorld) -> None:
    server, pick = world.server, world.random
    server.loss = pick.choice([0.0, 0.0, 0.2, 0.6])
    server.delay = pick.choice([0.0, 0.0, 0.3, 0.8])


def _any_gateway(world: ClusterWorld) -> ClusterGateway:
    return world.random.choice(world.of_cluster)


def _any_client(world: ClusterWorld) -> ClusterClient:
    client = world.random.choice(world.clients)
    assert isinstance(client, ClusterClient)
    return client


_OWN = {"connect": (connect, 8), "restart_gateway": (restart_gateway, 1), "subscribe": (subscribe, 6)}
_BUS_WEIGHT_MAX = 6
"""What happens on the bus matters less here."""
CLUSTER_ACTS: list[tuple[Act, int]] = [
    *(_OWN.get(act.__name__, (act, min(weight, _BUS_WEIGHT_MAX))) for act, weight in schedule.ACTS),
    (wander, 5),
    (confirm, 3),
    (send_to_everyone, 4),
    (send_news, 6),
    (send_to_client, 8),
    (send_again, 6),
    (replicate, 3),
    (fail_over, 1),
    (flush_engine, 1),
    (fail_engine, 1),
    (start_engine, 3),
    (cut_off, 3),
    (change_engine, 4),
]
