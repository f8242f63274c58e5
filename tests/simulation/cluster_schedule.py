"""The steps in a world whose gateways are a cluster."""

from __future__ import annotations

from gateway.core.protocol.channels import EVERYONE
from gateway.core.protocol.events import set_clock_offset
from tests.simulation import schedule
from tests.simulation.cluster_world import NEWS, RAW, ClusterClient, ClusterGateway, ClusterWorld
from tests.simulation.engine_server import simulated
from tests.simulation.schedule import STEPS, Act, play
from tests.support.core import SECOND


def run_cluster(seed: int, *, steps: int = STEPS) -> tuple[str | None, list[str]]:
    """Run one world to its end; see `tests.simulation.schedule.run`."""
    set_clock_offset(0)
    world = ClusterWorld(seed)
    with simulated(world.server, lambda: world.now_ns):
        world.run_due()
        return play(world, CLUSTER_ACTS + (LEASE_ACTS if world.numbering == "one" else []), steps=steps)


def restart_gateway(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    killed = world.random.random() < 0.5 or gateway.stopped
    for client in world.clients:
        if client.gateway is gateway:
            client.disconnect()
    gateway.end(killed=killed)
    gateway.continue_()
    gateway.begin()


def connect(world: ClusterWorld) -> None:
    client, gateway = _any_client(world), _any_gateway(world)
    if client.gateway is None and client.is_idle and gateway.acts:
        client.connect(gateway)


def move_to_another_gateway(world: ClusterWorld) -> None:
    """Connect a client to another gateway before the previous one notices that the connection is lost."""
    client, gateway = _any_client(world), _any_gateway(world)
    if client.gateway is not None and client.is_idle and gateway.acts:
        client.leave()
        client.connect(gateway)


def answer_ping(world: ClusterWorld) -> None:
    client = _any_client(world)
    if client.acts and not client.writing_paused:
        client.answer_ping()


def send_to_everyone(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.acts:
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, EVERYONE)


def send_to_channel(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.acts:
        channel = NEWS if world.numbering == "each" else world.random.choice([NEWS, RAW])
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, channel)


def subscribe(world: ClusterWorld) -> None:
    client, pick = _any_client(world), world.random
    if client.acts and not client.patterns:
        options = {"rate": pick.choice([1, 10])} if pick.random() < 0.2 else {}
        news = NEWS if world.numbering == "each" else RAW
        client.subscribe(pick.choice([["alpha", news], ["beta", NEWS], [news], ["*"]]), **options)


def send_to_client(world: ClusterWorld) -> None:
    gateway, client = _any_gateway(world), _any_client(world)
    if gateway.acts and client.client_id:
        for _ in range(world.random.randint(1, 4)):
            world.broadcast(gateway, client.client_id)


def repeat_message(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.acts and gateway.is_up and world.failed:
        world.repeat_broadcast(gateway)


def fail_engine(world: ClusterWorld) -> None:
    world.server.fail()


def start_engine(world: ClusterWorld) -> None:
    """Start the engine again with all its data, with a replica's data, or without data."""
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
    """Cut one gateway off from the engine, or let all gateways reach it again."""
    gateway, server = _any_gateway(world), world.server
    if server.cut_off:
        server.end_partition()
    elif gateway.cluster is not None:
        server.cut_off.add(gateway.cluster.id)


def change_engine(world: ClusterWorld) -> None:
    server, pick = world.server, world.random
    server.loss = pick.choice([0.0, 0.2, 0.6])
    server.delay = pick.choice([0.0, 0.0, 0.3, 0.8])


def split_engine(world: ClusterWorld) -> None:
    """Let two primaries accept writes, each from some of the gateways, or stop the older one."""
    server, pick = world.server, world.random
    if server.old is not None:
        server.stop_old_primary()
    elif server.up:
        ids = [gateway.cluster.id for gateway in world.cluster_gateways if gateway.cluster is not None]
        server.split(set(pick.sample(ids, pick.randint(1, len(ids)))))


def stop_gateway(world: ClusterWorld) -> None:
    gateway = _any_gateway(world)
    if gateway.acts:
        gateway.stop()


def continue_gateway(world: ClusterWorld) -> None:
    for gateway in world.cluster_gateways:
        if gateway.stopped:
            gateway.continue_()
            if world.random.random() < 0.7:  # before its timers show that it was stopped
                gateway.receive(1000)


def publish_raw(world: ClusterWorld) -> None:
    world.raw.publish(RAW, world.random.randint(1, 6))


def receive_all(world: ClusterWorld) -> None:
    for gateway in world.cluster_gateways:
        gateway.receive(1000)


def end_lease(world: ClusterWorld) -> None:
    """Let the lease expire too early, as after a jump of the engine's clock."""
    world.server.data.lease = None


def stop_lease_holder(world: ClusterWorld) -> None:
    """Stop the gateway with the lease until another one may have taken it; then continue it with what it had received."""
    pick = world.random
    for gateway in world.cluster_gateways:
        if gateway.acts and gateway.has_lease:
            publish_raw(world)
            gateway.receive(pick.choice([0, 1000]))
            gateway.stop()
            if pick.random() < 0.5:
                end_lease(world)
            for _ in range(pick.choice([1, 3, 12])):
                world.now_ns += SECOND
                world.run_due()
            publish_raw(world)
            receive_all(world)
            world.run_due()
            continue_gateway(world)


def fail_after_write(world: ClusterWorld) -> None:
    """Disturb the engine after it may have numbered events that not all gateways have read, perhaps until they notice."""
    server, pick = world.server, world.random
    before, server.delay = server.delay, 1.0
    publish_raw(world)
    receive_all(world)
    world.run_due()
    world.now_ns += SECOND // 10
    world.run_due()
    server.delay = before
    pick.choice([fail_engine, fail_engine, cut_off, fail_over, flush_engine, restart_gateway])(world)
    for _ in range(pick.choice([0, 4, 4])):
        world.now_ns += SECOND
        world.run_due()
    publish_raw(world)
    receive_all(world)


def _any_gateway(world: ClusterWorld) -> ClusterGateway:
    return world.random.choice(world.cluster_gateways)


def _any_client(world: ClusterWorld) -> ClusterClient:
    client = world.random.choice(world.clients)
    assert isinstance(client, ClusterClient)
    return client


_OWN = {"connect": (connect, 8), "restart_gateway": (restart_gateway, 1), "subscribe": (subscribe, 6)}
_BUS_WEIGHT_MAX = 6
"""Acts on the bus get at most this weight: these worlds are about the cluster."""
CLUSTER_ACTS: list[tuple[Act, int]] = [
    *(_OWN.get(act.__name__, (act, min(weight, _BUS_WEIGHT_MAX))) for act, weight in schedule.ACTS),
    (move_to_another_gateway, 5),
    (answer_ping, 3),
    (send_to_everyone, 4),
    (send_to_channel, 6),
    (send_to_client, 8),
    (repeat_message, 6),
    (replicate, 3),
    (fail_over, 1),
    (flush_engine, 1),
    (fail_engine, 1),
    (start_engine, 3),
    (cut_off, 3),
    (change_engine, 4),
    (split_engine, 2),
    (stop_gateway, 2),
    (continue_gateway, 3),
]
LEASE_ACTS: list[tuple[Act, int]] = [
    (publish_raw, 25),
    (receive_all, 15),
    (end_lease, 3),
    (stop_gateway, 5),
    (continue_gateway, 5),
    (fail_engine, 2),
    (start_engine, 4),
    (cut_off, 3),
    (move_to_another_gateway, 5),
    (connect, 8),
    (subscribe, 8),
    (stop_lease_holder, 3),
    (fail_after_write, 5),
]
"""The additional acts in worlds where one gateway has the events of all numbered (`cluster.numbering = "one"`)."""
