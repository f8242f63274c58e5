"""Limits that publishers, clients and callers of REST press on all at the same moment, beside a client that notices nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial

import psutil
import pytest

from tests.conftest import Connect, Launch, NewPublisher, OpenRaw
from tests.support import tokens
from tests.support.addresses import free_tcp
from tests.support.gateway import Gateway
from tests.support.keeper import Keeper
from tests.support.publisher import Publisher
from tests.support.raw import CONTINUATION, PING, PONG, TEXT, RawPeer, encode_frame
from tests.support.waiting import eventually
from tests.support.witness import undisturbed


MANY = 20
KB, MB = 1024, 1024 * 1024
SETTINGS: dict[str, object] = {
    "ingest.payload_bytes_max": 100 * KB,
    "ingest.rejections_max": 10,
    "bus.message_bytes_max": 200 * KB,
    "history.events_max": 10_000,
    "history.total_bytes_max": 4 * MB,
    "ingest.streams_max": 60,
    "channels.keyed.key": "data.k",
    "channels.keyed.keys_max": 10,
    "http.requests_waiting_max": 4,
    "http.answers_bytes_max": 200 * KB,
    "http.bodies_bytes_max": 200 * KB,
    "clients.subscriptions_max": 8,
    "clients.message_bytes_max": 8 * KB,
    "clients.messages_burst": 10,
    "sessions.messages_max": 5,
}
REST = "/api/v1/websocket"


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def limited(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    with Gateway(bind=free_tcp(), flags=["--workers", request.param], settings=SETTINGS) as gateway:
        yield gateway


@pytest.fixture
async def bus(limited: Gateway) -> AsyncIterator[Publisher]:
    async with Publisher(limited.bus_in) as publisher:
        yield publisher


@pytest.fixture
async def crowd(limited: Gateway) -> AsyncIterator[list[Publisher]]:
    publishers = [Publisher(limited.bus_in) for _ in range(MANY)]
    await asyncio.gather(*(one.subscribed() for one in publishers))
    yield publishers
    for one in publishers:
        one.close()


@pytest.fixture
async def beside(limited: Gateway, channel: str) -> AsyncIterator[None]:
    """A client that must get every event, in order, while the test runs."""
    async with undisturbed(limited, channel):
        yield


def memory(gateway: Gateway) -> int:
    """The bytes that its processes have together."""
    parent = psutil.Process(gateway.process.pid)
    return sum(one.memory_info().rss for one in (parent, *parent.children()))


def answers(found: list[tuple[int, bytes]]) -> Counter[int]:
    return Counter(status for status, _ in found)


async def ask(gateway: Gateway, request: bytes) -> tuple[int, bytes]:
    """Send a request on a connection of its own; return the status and the whole answer."""
    peer = RawPeer(gateway.port)
    try:
        await peer.send_bytes(request)
        answer = await peer.read_to_end()
    finally:
        peer.close()
    return int(answer.split(b" ", 2)[1]), answer


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {REST}{path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- publishers -----------------------------------------------------------------------------------


async def test_publishers_that_open_channels_at_once_open_no_more_than_there_may_be(
    launch: Launch, publisher: NewPublisher
) -> None:
    most = 40
    gateway = await launch(settings={"ingest.channels_max": most})
    crowd = [await publisher(gateway.bus_in) for _ in range(MANY)]
    async with undisturbed(gateway):
        for n in range(10):
            for number, one in enumerate(crowd):
                one.send(f"crowd.c{number}.n{n}", {"n": n})

        async def rejected() -> bool:
            return bool((await gateway.rejections())["counts"].get("too_many_channels", 0) >= 10 * MANY - most)

        await eventually(rejected)
    found = (await gateway.get_json(f"{REST}/channels"))["channels"]
    assert len([one for one in found if not one["standard"]]) <= most


@pytest.mark.usefixtures("beside")
async def test_publishers_that_send_too_much_at_once_lose_that_alone(
    limited: Gateway, crowd: list[Publisher], channel: str
) -> None:
    """A payload beyond the limit is rejected; one beyond ZeroMQ's ends its publisher's connection, which comes again."""
    for number, one in enumerate(crowd):
        one.send_payload(f"{channel}.big", b'"%b"' % (b"x" * (150 if number % 2 else 300) * KB))

    async def all_heard() -> bool:
        for number, one in enumerate(crowd):
            one.send(f"{channel}.after", {"n": number})
        answer = await limited.request("GET", f"{REST}/channels/{channel}.after/events?limit=1000")
        if answer.status != 200:
            return False
        return {event["data"]["n"] for event in answer.json["events"]} == set(range(MANY))

    await eventually(all_heard)
    found = await limited.rejections()
    assert found["counts"]["oversized"] >= MANY // 2
    assert len(found["rejections"]) <= 10


@pytest.mark.usefixtures("beside")
async def test_publishers_that_number_more_streams_at_once_than_are_remembered_lose_nothing(
    limited: Gateway, crowd: list[Publisher], connect: Connect, channel: str
) -> None:
    client = await connect(to=limited)
    await client.subscribe(f"{channel}.>")
    for n in range(3):
        for number, one in enumerate(crowd):
            for topic in range(5):
                one.send(f"{channel}.c{number}.t{topic}", {"n": n}, enveloped=True)
    names = [f"{channel}.c{number}.t{topic}" for number in range(MANY) for topic in range(5)]
    for name in names:
        await client.events(name, 3)
    found = await limited.get_json(f"{REST}/publishers")

    assert {name: [0, 1, 2] for name in names} == {name: client.channel(name).numbers for name in names}
    assert not any(client.channel(name).gaps for name in names)
    assert found["page"]["total"] <= 60


@pytest.mark.usefixtures("beside")
async def test_heartbeats_of_more_publishers_at_once_than_are_remembered_forget_the_others(
    limited: Gateway, crowd: list[Publisher]
) -> None:
    for n in range(60):
        for number, one in enumerate(crowd):
            beat = {"incarnation": f"{MANY * n + number + 1:016x}", "interval": 60, "sequences": {}}
            one.send_frames(b"$heartbeat", json.dumps(beat).encode())
    last = MANY * 60
    await eventually(lambda: limited.has_heard(last))
    live = await limited.metric("neurograph_gateway_bus_publishers", state="live")

    assert live <= 1000


@pytest.mark.usefixtures("beside")
async def test_keys_of_many_publishers_at_once_leave_the_newest_current_values(
    limited: Gateway, crowd: list[Publisher], connect: Connect
) -> None:
    """A client that asks for them is warned that there were more."""
    for n in range(10):
        for number, one in enumerate(crowd):
            one.send("keyed", {"k": f"{number} {n}"})
    await limited.holds("keyed", 10 * MANY)
    client = await connect(to=limited)
    subscribed = await client.subscribe("keyed", last=1)
    await client.until("event", channel="keyed", offset=10 * MANY)

    assert len(client.channel("keyed").events) == 10
    assert "190 current values were dropped" in subscribed["warnings"][0]


@pytest.mark.long
async def test_messages_of_many_publishers_that_are_held_at_once_stay_within_their_limit(launch: Launch) -> None:
    """One message of each is lost, and none answers: of the others no more wait than stated, and all come."""
    count, size = 45, 90 * KB
    gateway = await launch(settings={"ingest.payload_bytes_max": 100 * KB, "history.total_bytes_max": 4 * MB})
    async with AsyncExitStack() as stack:
        crowd = [Keeper(gateway.bus_in, keep=1, interval=60) for _ in range(MANY)]
        for one in crowd:
            stack.callback(one.close)
            await eventually(partial(gateway.has_heard, one.incarnation))
            one.task.cancel()  # and so it answers nothing
        most_held = 0.0
        await stack.enter_async_context(undisturbed(gateway))
        for n in range(count):
            for number, one in enumerate(crowd):
                one.lose = n == 1
                one.send(f"held.c{number}", "x" * size)
            most_held = max(most_held, await gateway.metric("neurograph_gateway_bus_messages_held"))
        for number in range(MANY):
            await gateway.holds(f"held.c{number}", count)

    assert most_held <= 64 * MB / size + 1
    assert await gateway.metric("neurograph_gateway_bus_messages_held") == 0
    assert await gateway.metric("neurograph_gateway_bus_messages_lost_total") == MANY


@pytest.mark.usefixtures("beside")
async def test_histories_that_grow_at_once_stay_within_the_limit_of_all(
    limited: Gateway, crowd: list[Publisher], connect: Connect, channel: str
) -> None:
    """What was cut is a gap, also at a worker, and a client gets everything that follows it."""
    grown = crowd[:5]
    for _ in range(20):
        for number, one in enumerate(grown):
            one.send(f"{channel}.h{number}", {"padding": "x" * 90 * KB})
    for number in range(len(grown)):
        await limited.holds(f"{channel}.h{number}", 20)
    found = (await limited.get_json(f"{REST}/channels"))["channels"]
    client = await connect(to=limited)
    await client.subscribe(f"{channel}.h0", since={"epoch": "_", "offset": 0})
    await client.until("event", channel=f"{channel}.h0", offset=20)

    assert sum(one["bytes"] for one in found) <= 4 * MB
    assert await limited.logged("histories_cut")
    assert 0 < len(client.channel(f"{channel}.h0").events) < 20


# -- clients --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("beside")
async def test_clients_that_subscribe_to_too_much_at_once_are_refused(limited: Gateway, raw: OpenRaw) -> None:
    """Each within its own limits: what is beyond them changes nothing."""
    peers = [await raw(to=limited) for _ in range(MANY)]
    wanted = [{"type": "subscribe", "channels": [f"a.c{n}.{m}" for m in range(4)], "id": n} for n in range(5)]
    sent = b"".join(encode_frame(TEXT, json.dumps(one).encode()) for one in wanted)

    async def subscribe(peer: RawPeer) -> Counter[str]:
        await peer.send_bytes(sent)
        replies = [await peer.read_message() for _ in wanted]
        return Counter(str(reply.get("code", reply["type"])) for reply in replies)

    replies = await asyncio.gather(*map(subscribe, peers))
    assert replies == [Counter({"subscribed": 2, "too_many_subscriptions": 3})] * MANY


TOO_LARGE = {
    "'" + "x" * 1024 + "' == data.x": "invalid_field",
    "||".join(["true"] * 129): "invalid_filter",
    "(" * 33 + "true" + ")" * 33: "invalid_filter",
}


@pytest.mark.usefixtures("beside")
async def test_filters_that_are_too_large_are_refused_by_many_at_once(limited: Gateway, raw: OpenRaw) -> None:
    peers = [await raw(to=limited) for _ in range(MANY)]

    async def subscribe(peer: RawPeer) -> list[str]:
        for text in TOO_LARGE:
            await peer.send_json({"type": "subscribe", "channels": ["a"], "filter": text})
        return [str((await peer.expect("error"))["code"]) for _ in TOO_LARGE]

    assert await asyncio.gather(*map(subscribe, peers)) == [list(TOO_LARGE.values())] * MANY


@pytest.mark.usefixtures("beside")
async def test_clients_that_send_too_much_at_once_wait_or_are_closed(limited: Gateway, raw: OpenRaw) -> None:
    """Of 40 messages in one segment those beyond the rate are refused; one that is too large closes its connection."""
    peers = [await raw(to=limited) for _ in range(MANY)]
    many = encode_frame(TEXT, b'{"type":"get_subscriptions"}') * 40 + encode_frame(PING)
    large = encode_frame(TEXT, b'"%b"' % (b"x" * 9 * KB))

    async def send(peer: RawPeer) -> int | None:
        await peer.send_bytes(many + large)
        ending = await peer.read_ending()
        codes = Counter(message.get("code", message["type"]) for message in ending.messages)
        assert codes["subscriptions"] + codes["rate_limited"] == 40
        assert codes["subscriptions"] < 40
        return ending.code

    assert await asyncio.gather(*map(send, peers)) == [1009] * MANY


@pytest.mark.usefixtures("beside")
async def test_unfinished_messages_of_many_clients_take_about_their_size(limited: Gateway, raw: OpenRaw) -> None:
    """Each of 100 clients leaves one that is nearly as large as allowed, in fragments of 16 bytes, and ends it later."""
    text = b'{"type":"get_subscriptions"}'.rjust(7 * KB)
    pieces = [text[at : at + 16] for at in range(0, len(text), 16)]
    first, *more, last = pieces
    unfinished = encode_frame(TEXT, first, fin=False)
    unfinished += b"".join(encode_frame(CONTINUATION, piece, fin=False) for piece in more)
    peers = [await raw(to=limited) for _ in range(100)]
    before = memory(limited)
    # The pong behind them shows that they were read.
    await asyncio.gather(*(peer.send_bytes(unfinished + encode_frame(PING)) for peer in peers))
    assert {PONG} == {(await peer.read_frame()).opcode for peer in peers}
    grown = memory(limited) - before
    await asyncio.gather(*(peer.send_frame(CONTINUATION, last) for peer in peers))

    assert {"subscriptions"} == {str((await peer.read_message())["type"]) for peer in peers}
    assert grown < 100 * 2 * 8 * KB + 4 * MB


async def test_a_key_that_many_publish_with_at_once_publishes_once(
    limited: Gateway, raw: OpenRaw, channel: str
) -> None:
    """Over WebSockets at any worker, and over HTTP: all get the same answer."""
    event = {"event_type": "note", "data": 1}
    peers = [await raw(to=limited) for _ in range(MANY)]
    message = {"type": "publish", "channel": channel, "event": event, "idempotency_key": channel}

    async def publish(peer: RawPeer) -> int:
        await peer.send_json(message)
        return int((await peer.expect("published"))["position"]["offset"])

    async def post() -> int:
        broadcast = request(
            "POST", f"/broadcast?channel={channel}", json.dumps(event).encode(), Idempotency_Key=channel
        )
        status, answer = await ask(limited, broadcast)
        return 1 if status == 503 else int(json.loads(answer.partition(b"\r\n\r\n")[2])["position"]["offset"])

    assert set(await asyncio.gather(*map(publish, peers), *(post() for _ in range(MANY)))) == {1}


async def test_personal_messages_at_once_wait_up_to_their_limit(limited: Gateway, connect: Connect) -> None:
    first = await connect(to=limited)
    await first.lose()
    body = json.dumps({"client_id": first.client_id, "event": {"n": 1}}).encode()
    sent = answers(await asyncio.gather(*(ask(limited, request("POST", "/broadcast", body)) for _ in range(MANY))))
    second = await connect(to=limited, session=first.session)
    await second.events("$personal", 5)
    await second.ping()
    record = second.channel("$personal")

    assert len(record.events) == 5
    assert [(gap["from"], gap["to"]) for gap in record.gaps] == [(1, sent[200] - 5)]


# -- callers of REST ------------------------------------------------------------------------------


@pytest.mark.usefixtures("beside")
async def test_requests_at_once_are_answered_or_refused_with_a_time(
    limited: Gateway, bus: Publisher, channel: str
) -> None:
    """Answers of 2 MB each, for 60 callers: some get theirs, health always does, and then all do again."""
    for n in range(20):
        bus.send(f"{channel}.big", {"n": n, "padding": "x" * 90 * KB})
    await limited.holds(f"{channel}.big", 20)
    history = request("GET", f"/channels/{channel}.big/events?limit=1000")
    before = memory(limited)
    asking = asyncio.gather(*(ask(limited, history) for _ in range(60)))
    assert (await limited.request("GET", "/healthz")).status == 200
    found = await asking
    most = memory(limited)

    assert set(answers(found)) == {200, 503}
    assert all(b"\r\nRetry-After: " in answer for status, answer in found if status == 503)
    assert most - before < 32 * MB
    assert (await ask(limited, history))[0] == 200


@pytest.mark.usefixtures("beside")
async def test_bodies_at_once_take_no_more_memory_than_stated(limited: Gateway, channel: str) -> None:
    """Events of 90 KB from 60 callers that send all but the last byte of them: two have room, and the others wait."""
    body = json.dumps({"event_type": "x", "data": "x" * 90 * KB}).encode()
    whole = request("POST", f"/broadcast?channel={channel}.body", body)
    peers = [RawPeer(limited.port) for _ in range(60)]
    try:
        before = memory(limited)
        await asyncio.gather(*(peer.send_bytes(whole[:-1]) for peer in peers))
        assert (await limited.request("GET", "/healthz")).status == 200
        assert memory(limited) - before < 16 * MB
        await asyncio.gather(*(peer.send_bytes(whole[-1:]) for peer in peers))
        found = await asyncio.gather(*(peer.read_to_end() for peer in peers))
    finally:
        for peer in peers:
            peer.close()
    statuses = Counter(int(answer.split(b" ", 2)[1]) for answer in found)

    assert set(statuses) == {200, 503}
    assert sum(statuses.values()) == 60


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_bodies_that_are_too_large_or_never_end_are_refused_to_all_at_once(launch: Launch, workers: str) -> None:
    """One that says how long it is before it is read; others when they exceed the limit, or take too long."""
    gateway = await launch(
        flags=["--workers", workers],
        settings={"ingest.payload_bytes_max": 100 * KB, "clients.handshake_timeout_seconds": 5},
    )
    head = f"POST {REST}/broadcast?channel=a HTTP/1.1\r\nHost: localhost\r\n".encode()
    chunk = b"8000\r\n" + b"x" * 32 * KB + b"\r\n"
    sent = [
        (413, head + b"Content-Length: 1000000000\r\n\r\n" + b"x" * KB),
        (413, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4),
        (408, head + b"Content-Length: 1000\r\n\r\n{"),
    ] * MANY

    async def status(one: bytes) -> int:
        peer = RawPeer(gateway.port)
        try:
            await peer.send_bytes(one)
            return await peer.read_answer()
        finally:
            peer.close()

    async with undisturbed(gateway):
        before = memory(gateway)
        found = await asyncio.gather(*(status(one) for _, one in sent))
    grown = memory(gateway) - before

    assert found == [status for status, _ in sent]
    for status_, count in Counter(found).items():
        assert await gateway.metric("neurograph_gateway_http_responses_total", status=str(status_)) == count
    assert grown < 16 * MB


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_tokens_that_are_too_long_are_refused_to_all_at_once(
    launch: Launch, connect: Connect, workers: str
) -> None:
    """In a header and in a message; those that are just short enough are valid."""
    gateway = await launch(
        flags=["--workers", workers],
        settings={**tokens.SETTINGS, "clients.header_bytes_max": 16 * KB, "clients.message_bytes_max": 64 * KB},
    )
    gateway.token = tokens.token("admin")
    long, short = padded(8 * KB + 16), padded(8 * KB)

    async def over_rest(token: str) -> int:
        return (await gateway.request("GET", f"{REST}/channels", headers=tokens.bearer(token))).status

    async def over_websocket(token: str) -> str:
        client = await connect(to=gateway)
        await client.send({"type": "auth", "token": token})
        return str((await client.next())["type"])

    async with undisturbed(gateway, headers=tokens.bearer(gateway.token)):
        before = await gateway.metric("neurograph_gateway_tokens_refused_total", reason="malformed")
        statuses = await asyncio.gather(*(over_rest(token) for token in (long, short) for _ in range(MANY)))
        types = await asyncio.gather(*(over_websocket(token) for token in (long, short) for _ in range(MANY)))

    refused = await gateway.metric("neurograph_gateway_tokens_refused_total", reason="malformed") - before
    assert statuses == [401] * MANY + [200] * MANY
    assert types == ["error"] * MANY + ["authenticated"] * MANY
    assert refused == 2 * MANY


def padded(length: int) -> str:
    """A valid token of so many characters, or a few less."""
    more = (length - len(tokens.token("admin", more=""))) * 3 // 4
    return next(one for n in range(9) if len(one := tokens.token("admin", more="x" * (more + 4 - n))) <= length)
