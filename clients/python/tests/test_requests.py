"""Requests of a client: pings, publishing, HTTP, tokens, and gateways that cannot be reached."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from neurograph_client import Client, ClosedError, Event, NotConnectedError, Position, RequestRefusedError

from tests.conftest import Launch, NewPublisher
from tests.support.addresses import free_port
from tests.support.gateway import Gateway
from tests.support.waiting import eventually

from .conftest import NewProxy


async def test_a_ping_measures_the_round_trip(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel):
        pong = await client.ping()

    assert pong.seconds > 0
    assert pong.positions[channel].offset == 0


async def test_publishing(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        assert (await client.publish(channel, {"n": 1}, "t")).recipients == 1
        assert (await client.publish(channel, {"n": 2})).recipients == 1
        found = [await anext(events), await anext(events)]

    assert [(e.event_type, e.data) for e in found if isinstance(e, Event)] == [("t", {"n": 1}), (None, {"n": 2})]


async def test_history_continues_after_a_position(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client:
        for n in range(1, 6):
            await client.publish(channel, {"n": n}, "t")
        newest = await client.history(channel, limit=2)
        first = await client.history(channel, since=Position(newest.next.epoch, 0), limit=3)
        rest = await client.history(channel, since=first.next)
        channels = {one["name"]: one for one in await client.channels()}
        async with client.subscribe(channel):
            presence = await client.presence(channel)

    assert [[4, 5], [1, 2, 3], [4, 5]] == [[one.data["n"] for one in part.items] for part in (newest, first, rest)]  # type: ignore[union-attr]  # no gaps here
    assert rest.next == rest.items[-1].position  # type: ignore[union-attr]
    assert 5 == channels[channel]["events"]
    assert 1 == presence["subscribers"]


async def test_a_closed_client_starts_again(gateway: Gateway, channel: str) -> None:
    seen: list[object] = []
    client = Client(gateway.url)
    client.on(channel, seen.append)
    async with client:
        pass
    assert client.state == "closed"
    with pytest.raises(ClosedError):
        client.subscribe(channel)
    async with client, client.subscribe(channel):
        await client.publish(channel, {"n": 1})
        await eventually(lambda: len(seen) == 1)


async def test_headers_are_sent_with_every_request(gateway: Gateway) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(f"{request.path} {request.headers.get('X-Team')} {request.headers.get('Sec-WebSocket-Extensions')}")
        raise web.HTTPForbidden

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    with pytest.raises(ClosedError):
        await Client(str(server.make_url("")), headers={"X-Team": "blue"}).__aenter__()
    await server.close()

    assert ["/ws blue permessage-deflate; client_max_window_bits"] == seen


async def test_a_client_reaches_the_gateway_through_a_proxy(gateway: Gateway) -> None:
    """An HTTP proxy receives the whole URL in the first line of a request."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(NotConnectedError):
        await Client(gateway.url, proxy=proxy, timeout=0.5).__aenter__()
    server.close()

    assert asked[0].startswith(f"GET {gateway.url}/ws ".encode())


async def test_compressed_messages_are_read(launch: Launch) -> None:
    gateway = await launch(settings={"clients.compression_bytes_min": 100})
    async with Client(gateway.url) as client, client.subscribe("robots") as events:
        await client.publish("robots", "x" * 10_000, "t")
        event = await anext(events)

    assert isinstance(event, Event)
    assert 10_000 == len(event.data)


async def test_an_event_prints_its_data_once_and_has_its_time(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client, client.subscribe(channel) as events:
        await client.publish(channel, {"word": "banana"}, "t")
        event = await anext(events)

    assert isinstance(event, Event)
    assert 1 == repr(event).count("banana")
    assert event.time.isoformat() == event.timestamp.replace("Z", "+00:00")


async def test_a_request_refused_over_http_is_an_error(gateway: Gateway) -> None:
    async with Client(gateway.url) as client:
        with pytest.raises(RequestRefusedError) as event:
            await client.publish("metrics", {"cpu_percent": "hot"}, "system_metrics")
        with pytest.raises(RequestRefusedError) as target:
            await client.broadcast("t", 1, client_id="nobody")

    assert (event.value.code, event.value.status) == ("invalid_event", 422)
    assert (target.value.code, target.value.status) == ("unknown_client", 404)


async def test_the_status_and_the_welcome(gateway: Gateway) -> None:
    async with Client(gateway.url, user_id="ada") as client:
        status = await client.status()

        assert client.info.client_id in {one["client_id"] for one in status["clients"]}
        assert client.info.user_id == "ada"
        assert client.info.server == "neurograph-gateway"
        assert (client.connection_count, client.last_disconnect) == (1, None)


async def test_warnings_of_the_gateway_reach_the_application(gateway: Gateway, channel: str) -> None:
    """There are warnings for a channel with a similar name to an existing one, and for a filter that fails on events."""
    warnings: list[str] = []
    async with Client(gateway.url, on_warning=warnings.append) as client:
        await client.publish(channel + ".robots", {"n": 1})
        async with client.subscribe(channel, filter="data.missing > 1"), client.subscribe(channel + ".robot"):
            await client.publish(channel, {"n": 1})
            await eventually(lambda: len(warnings) == 2)

    assert sorted(warnings)[0] == f"no such channel yet: `{channel}.robot`; did you mean `{channel}.robots`?"
    assert sorted(warnings)[1].startswith(f"the filter of `{channel}` failed on 1 event")


async def test_a_warning_without_a_handler_is_logged(
    gateway: Gateway, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(gateway.url) as client:
        await client.publish(channel + ".robots", {"n": 1})
        async with client.subscribe(channel + ".robot"):
            pass

    assert [f"no such channel yet: `{channel}.robot`; did you mean `{channel}.robots`?"] == caplog.messages


@pytest.mark.parametrize("form", ["{}", "http://{}", "ws://{}/", "http://{}/ws"])
async def test_addresses_of_all_forms(gateway: Gateway, form: str) -> None:
    async with Client(form.format(gateway.url.removeprefix("http://"))) as client:
        assert (await client.status())["ready"] is True


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "http://"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Client(url)


async def test_an_unreachable_gateway_is_an_error(gateway: Gateway) -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", timeout=0.3)
    with pytest.raises(NotConnectedError, match=r"http://127.0.0.1:\d+: Connection refused"):
        async with client:
            pass
    with pytest.raises(NotConnectedError):
        await Client(gateway.url).ping()


async def test_a_server_that_is_not_a_gateway_ends_the_client(gateway: Gateway) -> None:
    client = Client(gateway.url + "/nowhere")
    with pytest.raises(ClosedError) as closed:
        async with client:
            pass

    assert closed.value.code == 404


async def test_a_token_is_sent_with_every_connection(gateway: Gateway, proxy: NewProxy) -> None:
    """The client calls the function for each connection; this gateway does not accept tokens on an open one."""
    given = 0

    async def token() -> str:
        nonlocal given
        given += 1
        return f"token-{given}"

    between = await proxy(gateway)
    async with Client(between.url, token=token) as client:
        await client.status()
        assert b"Authorization: Bearer token-2" in between.request
        with pytest.raises(RequestRefusedError, match="unsupported"):
            await client.refresh_token()
    assert given == 3


async def test_a_request_without_an_answer_times_out(gateway: Gateway, proxy: NewProxy) -> None:
    between = await proxy(gateway)
    async with Client(between.url, timeout=0.5) as client:
        between.stall()
        with pytest.raises((NotConnectedError, TimeoutError)):
            await client.ping()
        between.cut()
        with pytest.raises((NotConnectedError, TimeoutError)):
            await asyncio.gather(*(client.ping() for _ in range(10)))


async def test_the_newest_events_are_read_in_several_answers(launch: Launch, publisher: NewPublisher) -> None:
    gateway = await launch(settings={"history.events_max": 3000})
    bus = await publisher(gateway.bus_in)
    bus.send_numbered("robots.r2", range(1, 2001))
    await gateway.holds("robots.r2", 2000)

    async with Client(gateway.url, buffer=100) as client:
        few = await client.history("robots.r2", last=3)
        many = await client.history("robots.r2", last=1500)

    assert [1998, 1999, 2000] == [one.data["n"] for one in few if isinstance(one, Event)]
    assert [*range(501, 2001)] == [one.data["n"] for one in many if isinstance(one, Event)]
    assert (1500, few.next, 501) == (len(many), many.next, cast("Event[Any]", many[0]).data["n"])
