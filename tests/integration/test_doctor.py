"""`gateway doctor` names what is wrong between a publisher's socket and the clients."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from neurograph_publisher import Publisher

from gateway.core.protocol.events import STANDARD
from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import free_port, free_tcp
from tests.support.command import Command, run
from tests.support.curve import Ring
from tests.support.tokens import SETTINGS
from tests.support.vllm import Vllm
from tests.support.waiting import eventually


Findings = dict[str, dict[str, Any]]


@pytest.fixture
async def context() -> AsyncIterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)  # of all its sockets
    yield context
    context.destroy(linger=0)


@asynccontextmanager
async def publishing(socket: zmq.Socket[bytes], *frames: bytes) -> AsyncIterator[list[bytes]]:
    """Send a message again and again, as far as somebody takes it; the payloads that were sent."""
    sent: list[bytes] = []

    async def send() -> None:
        while True:
            with suppress(zmq.Again):
                socket.send_multipart(frames, zmq.NOBLOCK)
                sent.append(frames[-1])
            await asyncio.sleep(0.01)

    task = asyncio.create_task(send())
    try:
        yield sent
    finally:
        task.cancel()


async def examined(*arguments: str) -> tuple[int, Findings]:
    """Run the doctor; its exit status, and its findings by their checks."""
    status, command = await run("doctor", *arguments, "--json")
    assert command.errors == "", command.errors
    return status, {one["check"]: one for one in command.messages}


def sources(table: Mapping[str, object]) -> tuple[str, ...]:
    """The arguments that configure this source, and a gateway that does not run."""
    return ("--bind", "", "--port", str(free_port()), "--set", f"bus.sources={json.dumps([table])}")


def problems(findings: Findings) -> set[str]:
    return {check for check, one in findings.items() if one["state"] == "problem"}


async def test_a_publisher_that_works_gets_exit_status_0(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        async with publishing(socket, b"robots", b'{"x": 1}'):
            status, findings = await examined(endpoint, "--seconds", "1")

    assert (status, problems(findings)) == (0, set())
    assert findings["socket"]["text"] == "PUB"
    assert '`robots` (6 bytes), `{"x": 1}` (8 bytes)' in findings["frames"]["text"]
    assert {"reachable", "zeromq", "handshake", "message", "valid", "envelope", "rates"} <= findings.keys()


async def test_a_socket_of_a_wrong_kind_gets_exit_status_1_and_its_name(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    with context.socket(zmq.PUSH) as socket:
        socket.bind("tcp://127.0.0.1:*")
        status, findings = await examined(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    assert (status, problems(findings)) == (1, {"socket"})
    assert "is a PUSH socket" in findings["socket"]["text"]


async def test_a_publisher_that_connects_is_examined_in_the_gateways_place(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    endpoint = free_tcp()
    with context.socket(zmq.PUB) as socket:
        socket.connect(endpoint)
        async with publishing(socket, b"robot/1", b"{}"):
            how = ("--bind", endpoint, "--port", str(free_port()), "--seconds", "2")
            status, findings = await examined(endpoint, *how)

    assert (status, problems(findings)) == (1, {"valid"})
    assert "PUB" in findings["socket"]["text"]
    assert findings["http"]["state"] == "note"


async def test_a_bind_that_another_program_uses_is_not_examined(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.SUB) as socket:
        endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        status, findings = await examined(endpoint, "--bind", endpoint, "--port", str(free_port()))

    assert (0, "note") == (status, findings["bind"]["state"])
    assert "it is in use" in findings["bind"]["text"]


async def test_a_bind_that_cannot_be_bound_is_a_problem(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/nowhere/bus"
    status, findings = await examined(endpoint, "--bind", endpoint, "--port", str(free_port()))

    assert (1, {"bind"}) == (status, problems(findings))
    assert "it cannot be bound: No such file or directory" in findings["bind"]["text"]


async def test_a_server_that_does_not_speak_zeromq_is_a_problem() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, findings = await examined(f"tcp://127.0.0.1:{port}", "--bind", "", "--port", str(free_port()))

    assert (1, {"zeromq"}) == (status, problems(findings))


async def test_one_that_connects_with_a_wrong_kind_of_socket_is_named(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    endpoint = free_tcp()
    with context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        status, findings = await examined(endpoint, "--bind", endpoint, "--port", str(free_port()))

    assert status == 1
    assert "is a PUSH socket" in findings["socket"]["text"]


@pytest.mark.parametrize("mode", ["connect", "bind"])
@pytest.mark.parametrize(
    ("peer", "receiver", "wrong"),
    [
        (zmq.XPUB, "sub", ""),
        (zmq.PUSH, "pull", ""),
        (zmq.PUB, "pull", 'Remove socket = "pull" from the source'),
        (zmq.PUSH, "sub", 'a source with socket = "pull"'),
    ],
)
async def test_a_socket_that_fits_its_source_is_no_problem_and_another_is(
    peer: int, receiver: str, wrong: str, mode: str, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    endpoint = free_tcp()
    how = sources({"endpoint": endpoint, "mode": mode, "socket": receiver})
    with context.socket(peer) as socket:
        (socket.connect if mode == "bind" else socket.bind)(endpoint)
        async with publishing(socket, b"robots", b"{}"):
            status, findings = await examined(endpoint, *how, "--seconds", "2")

    assert (status, problems(findings)) == ((1, {"socket"}) if wrong else (0, set()))
    assert wrong in findings["socket"]["text"]


async def test_nobody_at_a_pull_endpoint_is_a_problem_with_a_remedy_for_its_source() -> None:
    endpoint = free_tcp()
    status, findings = await examined(endpoint, *sources({"endpoint": endpoint, "socket": "pull"}))

    assert (status, problems(findings)) == (1, {"reachable"})
    assert 'mode = "bind"' in findings["reachable"]["remedy"]


async def test_nobody_who_connects_to_a_pull_endpoint_is_a_warning_and_exit_status_0() -> None:
    endpoint = free_tcp()
    table = {"endpoint": endpoint, "mode": "bind", "socket": "pull"}
    status, findings = await examined(endpoint, *sources(table), "--seconds", "0.2")

    assert (status, problems(findings), findings["reachable"]["state"]) == (0, set(), "warning")


async def test_what_a_push_sends_is_left_to_the_gateway_unless_it_is_asked_for(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    with context.socket(zmq.PUSH) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        how = (endpoint, *sources({"endpoint": endpoint, "socket": "pull"}), "--seconds", "0.5")
        async with publishing(socket, b"robot/1", b"x=5") as sent:
            status, untouched = await examined(*how)
            lost = list(sent)
            _, taken = await examined(*how, "--take")

    assert (status, untouched["message"]["state"], lost) == (0, "note", [])
    assert "--take" in untouched["message"]["remedy"]
    assert 'socket = "pull"\nseparator = "/"' in taken["valid"]["settings"]


async def test_on_a_terminal_it_prints_the_settings_to_write_below_what_is_wrong(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        async with publishing(socket, b"robot/1", b'{"x": 5}'):
            status, command = await run("doctor", endpoint, "--seconds", "1")
    lines = command.output.splitlines()
    wrong, remedy = (next(n for n, line in enumerate(lines) if text in line) for text in ("problem  valid", "→ or let"))

    assert 1 == status
    assert wrong < remedy
    assert ["      [[bus.sources]]", f'      endpoint = "{endpoint}"'] == lines[remedy + 2 : remedy + 4]
    assert '      separator = "/"' in lines[remedy + 4 :]


async def test_an_address_that_is_none_is_refused() -> None:
    status, command = await run("doctor", "--url", "127.0.0.1:8000")

    assert 2 == status
    assert "'127.0.0.1:8000' is not a URL; expected http://HOST:PORT" in command.errors


@pytest.mark.parametrize("is_quiet", [False, True], ids=["publishes", "quiet"])
async def test_a_publisher_with_numbers_of_its_own_is_asked_for_replay(is_quiet: bool, vllm: Vllm) -> None:
    """A quiet one for its first message."""
    for n in range(3):
        vllm.publish([n, []])

    async def publish() -> None:
        await vllm.subscribed()
        for _ in range(10):
            vllm.publish([0, []])

    publishing = asyncio.create_task(asyncio.sleep(0) if is_quiet else publish())
    status, findings = await examined(vllm.table["endpoint"], *sources(vllm.table), "--seconds", "2")
    await publishing

    number = 0 if is_quiet else len(vllm.sent) - 1
    assert (status, problems(findings), findings["replay"]["state"]) == (0, set(), "ok")
    assert findings["replay"]["text"] == f"{vllm.table['replay']} replays message {number}"


@pytest.mark.parametrize(
    ("settings", "state", "text"),
    [
        ({"replay": ""}, "note", "its source has no `replay`"),
        ({"replay": "tcp://127.0.0.1:9"}, "problem", "tcp://127.0.0.1:9 does not answer within 2 s"),
        ({"payload": "json"}, "problem", "cannot be read as the source says"),
    ],
)
async def test_a_replay_that_does_not_work_is_named(
    settings: dict[str, object], state: str, text: str, vllm: Vllm
) -> None:
    vllm.publish([0, []])
    table = vllm.table | settings
    _, findings = await examined(vllm.table["endpoint"], *sources(table), "--seconds", "2")

    assert findings["replay"]["state"] == state
    assert text in findings["replay"]["text"]
    assert findings["replay"]["remedy"]


async def test_an_endpoint_without_curve_is_examined_without_it(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    ring = Ring(tmp_path)
    keys = (f"bus.curve_key_file={ring.secret('gateway')}", f"bus.curve_server_key_file={ring.public('publisher')}")
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        how = ("--set", keys[0], "--set", keys[1], *sources({"endpoint": endpoint, "curve": False}))
        async with publishing(socket, b"robots", b"{}"):
            status, findings = await examined(endpoint, *how, "--seconds", "2")

    assert (status, findings["message"]["state"]) == (0, "ok")


async def test_a_running_gateway_says_how_it_is(launch: Launch) -> None:
    gateway = await launch(connect=[])
    how = ("--bind", gateway.bus_in, "--url", gateway.url, "--origin", "https://other.example")
    status, findings = await examined(gateway.bus_in, *how)

    assert (status, problems(findings)) == (1, {"origin"})
    assert "no publisher has connected" in findings["bus"]["text"]
    assert findings["ready"]["state"] == "ok"


async def test_a_gateway_with_clients_and_rejected_messages_says_so(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    gateway = await launch()
    bus = await publisher(gateway.bus_in)
    client = await connect(to=gateway)
    await client.ask(
        {"type": "subscribe", "channels": [{"channel": "robots", "filter": "data.speed > 1"}]}, "subscribed"
    )
    bus.send_frames(b"robots", b'{"event_type": "x", "data": {"arm": 1}}')
    bus.send_frames(b"no name", b"{}")

    async def counted() -> bool:
        failed = await gateway.metric("neurograph_gateway_filter_errors_total")
        return bool(failed and (await gateway.status())["rejected"])

    await eventually(counted)
    status, findings = await examined(gateway.bus_in, "--bind", gateway.bus_in, "--url", gateway.url)

    assert (status, problems(findings)) == (0, set())
    assert "rejected since its start: 1 bad_topic" in findings["rejections"]["text"]
    assert "1 of" in findings["subscribers"]["text"]
    assert "clients' filters failed on 1 events" in findings["filters"]["text"]


async def test_a_gateway_that_does_not_show_its_status_to_everyone_is_examined_without_it(launch: Launch) -> None:
    gateway = await launch(connect=[], settings=SETTINGS)
    status, findings = await examined(gateway.bus_in, "--bind", gateway.bus_in, "--url", gateway.url)

    assert (status, problems(findings)) == (0, set())
    assert "not open to this caller (401)" in findings["bus"]["text"]
    assert "does not say how it is" in findings["bind"]["text"]


async def test_another_program_at_the_gateways_port_is_a_problem() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        status, findings = await examined("--set", "connect=", "--bind", free_tcp(), "--url", url, "--seconds", "0.2")

    assert (status, problems(findings)) == (1, {"http"})
    assert "/healthz answers 404" in findings["http"]["text"]


async def test_each_address_of_a_name_is_examined(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT).replace("127.0.0.1", "127.1")
        async with publishing(socket, b"robots", b"{}"):
            status, findings = await examined(endpoint, "--seconds", "2")

    assert (status, findings["name"]["text"]) == (0, "127.1 is 127.0.0.1")
    assert findings["message"]["state"] == "ok"


async def test_a_name_that_cannot_be_looked_up_is_a_problem() -> None:
    status, findings = await examined(f"tcp://{'x' * 64}.invalid:5556")

    assert (status, problems(findings)) == (1, {"name"})


@pytest.mark.parametrize(
    ("replay", "said"), [(100, "replays message 1 of robots"), (0, "offers none")], ids=["replay", "no replay"]
)
async def test_a_publisher_is_asked_for_replay_where_its_heartbeats_say(replay: int, said: str) -> None:
    with Publisher(bind="tcp://127.0.0.1:*", heartbeat_seconds=0.1, replay=replay, linger_seconds=0) as bus:
        bus.publish("robots", 1)
        assert bus.endpoint is not None
        status, findings = await examined(bus.endpoint, "--seconds", "2")

    assert (status, problems(findings)) == (0, set())
    assert said in findings["replay"]["text"]


async def test_nobody_there_is_said_in_words() -> None:
    endpoint = free_tcp()
    status, command = await run("doctor", endpoint)

    assert status == 1
    assert_lines(command, endpoint, "reachable", "Connection refused", "→ start the publisher", "1 problems")


def assert_lines(command: Command, *texts: str) -> None:
    assert [text for text in texts if text not in command.output] == [], command.output


@pytest.mark.parametrize(
    ("frames", "channel"),
    [
        ([b"weather 10001 23"], "weather"),
        ([b"robot/1/pose", b'{"x": 1}'], "robot.1.pose"),
        ([b"rawblock", b"\0\1\2\xff", b"\1\0\0\0"], "bitcoin.rawblock"),
        ([b"gaze", b"\x81\xa1x\x01"], "gaze"),
        ([zlib.compress(b'{"$schemaRef": "x"}')], "eddn"),
    ],
    ids=["one frame", "slashes", "bytes", "MessagePack", "zlib"],
)
async def test_the_settings_that_it_prints_let_the_gateway_read_the_publisher(
    frames: list[bytes], channel: str, context: zmq.Context[zmq.Socket[bytes]], launch: Launch, tmp_path: Path
) -> None:
    with context.socket(zmq.PUB) as socket:
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        async with publishing(socket, *frames):
            status, findings = await examined(endpoint, "--seconds", "1")
            file = tmp_path / "gateway.toml"
            file.write_text(findings["valid"]["settings"])
            gateway = await launch(connect=[], flags=["--config", str(file)])

            async def channels() -> set[str]:
                found = (await gateway.get_json("/api/v1/websocket/channels"))["channels"]
                return {one["name"] for one in found} - {*STANDARD, "metrics.gateway"}

            opened = await eventually(channels, saying=gateway.log_tail)
            repeated, examination = await examined(endpoint, "--config", str(file), "--seconds", "1")

    assert (status, problems(findings)) == (1, {"valid"})
    assert {channel} == opened
    assert (repeated, problems(examination)) == (0, set())
