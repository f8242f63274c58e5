"""How the gateway starts, or says why it cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import free_port, free_tcp
from tests.support.command import run
from tests.support.gateway import Gateway
from tests.support.waiting import eventually


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["--set", "clients.no_such_key=1"], {}, "clients.no_such_key"),
        (["--set", "clients.heartbeat_seconds=often"], {}, "clients.heartbeat_seconds"),
        (["--set", "history.events_max=0"], {}, "history.events_max"),
        (["--port", "99999"], {}, "port"),
        (["--connect", "nonsense"], {}, "connect"),
        ([], {"GATEWAY_PORT": "http"}, "GATEWAY_PORT"),
        ([], {"GATEWAY_CLIENTS_HEARTBEAT_SECONDS": "x"}, "GATEWAY_CLIENTS_HEARTBEAT_SECONDS"),
        (["--config", "/no/such/file.toml"], {}, "/no/such/file.toml"),
        (["--bind", "tcp://127.0.0.1:5999", "--connect", "tcp://127.0.0.1:5999"], {}, "bind"),
        # What would let in who does not belong:
        (["--host", "0.0.0.0"], {}, "--insecure-allow-remote"),
        (["--bind", "tcp://0.0.0.0:5999"], {}, "--insecure-allow-remote"),
        ([], {"GATEWAY_AUTH_SECRET": "too short to be one"}, "GATEWAY_AUTH_SECRET"),
        (["--set", "auth.secret_file=/dev/null"], {}, "auth.secret_file"),
        (["--set", "auth.jwks_url=http://id.example/keys.json"], {}, "auth.insecure_jwks"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
async def test_a_wrong_setting_is_named(
    command: str, arguments: list[str], environment: dict[str, str], named: str
) -> None:
    """Exit status 2 and a message that names the key; never a traceback."""
    status, ran = await run(command, *arguments, variables=environment)
    output = ran.output + ran.errors

    assert status == 2, output
    assert named in output
    assert "Traceback" not in output


async def test_check_says_what_it_would_do() -> None:
    """Exit status 0 without opening anything."""
    endpoint = free_tcp()
    status, ran = await run("check", "--port", "8123", "--connect", endpoint)

    assert status == 0, ran.errors
    assert "8123" in ran.output
    assert endpoint in ran.output


def test_an_interpreter_runs_the_package() -> None:
    ended = subprocess.run([sys.executable, "-m", "gateway", "version"], cwd=ROOT, capture_output=True, text=True)

    assert ended.returncode == 0
    assert "0.1.0" in ended.stdout


async def test_a_port_in_use_is_named() -> None:
    """Not a traceback but a message with the address; exit status not 0."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        status, ran = await run("serve", "--port", str(port), "--bind", "")

    assert status != 0
    assert str(port) in ran.errors
    assert "Traceback" not in ran.errors


async def test_a_bus_endpoint_in_use_is_named(launch: Launch) -> None:
    """The endpoint is named, with a remedy."""
    gateway = await launch(bind=free_tcp())
    status, ran = await run("serve", "--port", "0", "--bind", gateway.bus_in)

    assert status != 0
    assert gateway.bus_in in ran.errors
    assert "Traceback" not in ran.errors


async def test_settings_rise_from_file_to_environment_to_flags(
    launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    """Each source overrides the one below it, key by key."""
    file = tmp_path / "gateway.toml"
    file.write_text("[clients]\nheartbeat_seconds = 11.0\nsubscriptions_max = 11\nmessage_bytes_max = 1100\n")
    gateway = await launch(
        flags=["--config", str(file), "--set", "clients.message_bytes_max=3300"],
        environment={"GATEWAY_CLIENTS_SUBSCRIPTIONS_MAX": "22", "GATEWAY_CLIENTS_MESSAGE_BYTES_MAX": "2200"},
    )
    hello = (await connect(to=gateway)).hello

    assert hello["heartbeat_seconds"] == 11.0
    assert hello["limits"] == {"message_bytes_max": 3300, "subscriptions_max": 22}


async def test_retention_can_be_set_per_channel(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """One channel keeps more, another less, by count and by age."""
    gateway = await launch(
        settings={"history.events_max": 10, "channels.metrics.events_max": 3, "channels.logs.age_seconds_max": 0.2}
    )
    bus = await publisher(gateway.bus_in)
    client = await connect("metrics", "logs", "own", to=gateway)
    for n in range(20):
        bus.send("metrics", {"n": n})
        bus.send("logs", {"level": "info", "message": "m", "n": n})
        bus.send("own", {"n": n})
    await client.events("own", 20)

    assert await gateway.metric("neurograph_gateway_history_events", channel="metrics") == 3
    assert await gateway.metric("neurograph_gateway_history_events", channel="own") == 10

    async def aged() -> bool:
        return await gateway.metric("neurograph_gateway_history_events", channel="logs") <= 1

    await eventually(aged)


async def test_a_restart_on_the_same_port_works(launch: Launch, connect: Connect) -> None:
    """Sockets that linger from before do not keep the address."""
    gateway: Gateway = await launch(port=free_port())
    port = gateway.port
    client = await connect("metrics", to=gateway)
    gateway.kill(signal.SIGTERM)
    await client.closed()
    await gateway.exited()
    await gateway.restart()

    assert gateway.port == port
    again = await connect("metrics", session=client.session, to=gateway)
    assert again.hello["resumed"] is False


async def test_bytes_that_are_not_zeromq_disconnect_their_sender_alone(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """A port scanner on the bound endpoint is cut off; publishers go on."""
    endpoint = free_tcp()
    gateway = await launch(bind=endpoint)
    bus = await publisher(endpoint)
    client = await connect("good", to=gateway)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, os.urandom(1000), b""):
        with socket.create_connection(("127.0.0.1", int(endpoint.rsplit(":", 1)[1]))) as scanner:
            scanner.sendall(garbage)
        bus.send("good", {"n": 1})
    await client.events("good", 4)

    assert (await gateway.get_json("/readyz"))["ready"] is True


async def test_a_second_gateway_does_not_take_the_path_of_a_first_one(launch: Launch) -> None:
    """libzmq would: publishers of the first one would then go to the second, in silence."""
    first = await launch()
    status, second = await run("serve", "--port", "0", "--connect", first.bus_out, "--bind", first.bus_in)

    assert status == 1
    assert f"{first.bus_in} is in use by process {first.process.pid}" in second.errors


@pytest.mark.parametrize("workers", [1, 2])
async def test_several_hosts_are_served_at_one_port(launch: Launch, connect: Connect, workers: int) -> None:
    gateway = await launch(flags=["--host", "127.0.0.1", "--host", "::1"], settings={"workers": workers})
    port = gateway.port
    [listening] = await gateway.logged("listening")
    clients = []
    for address in ("127.0.0.1", "[::1]"):
        gateway.url = f"http://{address}:{port}"
        assert (await gateway.request("GET", "/readyz")).status == 200
        clients.append(await connect("news", to=gateway))
    await gateway.broadcast({"everyone": True, "event": {"event_type": "note", "data": "to both"}})

    assert ["to both", "to both"] == [(await client.expect("event"))["data"] for client in clients]
    assert (f"http://127.0.0.1:{port}", [f"http://[::1]:{port}"]) == (listening["url"], listening["also"])


async def test_one_host_serves_both_families(launch: Launch) -> None:
    gateway = await launch(flags=["--host", "::", "--insecure-allow-remote"])
    for address in ("127.0.0.1", "[::1]"):
        gateway.url = f"http://{address}:{gateway.port}"
        assert (await gateway.request("GET", "/healthz")).status == 200
