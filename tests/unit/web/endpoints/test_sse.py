"""Event streams as EventSource and older proxies read them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.positions import read_position
from gateway.web.endpoints.sse import EventStream, read_event_id
from tests.unit.web.conftest import MakeEdge


def frames(*messages: dict[str, Any]) -> bytes:
    return b"".join(text_frame(json.dumps(message).encode()) for message in messages)


def event(channel: str, offset: int) -> dict[str, Any]:
    return {"type": "event", "channel": channel, "epoch": "e", "offset": offset}


def test_a_write_has_one_id_with_the_positions_behind_its_last_event() -> None:
    """An id for each event made 100 channels cost 22 times their data."""
    written = EventStream().encode(frames(event("a", 1), event("b", 7), event("a", 2))).decode()

    assert written.count("id: ") == 1
    assert "id: a=e:2,b=e:7\ndata: " in written.split("\n\n")[2]


def test_an_id_has_all_of_twenty_sources_and_is_a_position_again() -> None:
    stream, written = EventStream(), b""
    for number in range(1, 21):
        written = stream.encode(frames({**event("a", number), "epoch": f"{number:016x}"}))
    id_ = written.decode().partition("id: a=")[2].partition("\n")[0]

    assert read_position(id_).offsets == {f"{number:016x}": number for number in range(1, 21)}


def test_a_source_that_ended_leaves_the_id_with_the_next_event_of_another_one() -> None:
    stream = EventStream()
    stream.encode(frames(event("a", 2), {**event("a", 5), "epoch": "f"}))
    end = {"type": "gap", "channel": "a", "epoch": "e", "from": None, "to": None}
    behind_the_end = stream.encode(frames(end)).decode()
    behind_the_next = stream.encode(frames({**event("a", 6), "epoch": "f"})).decode()

    assert "id: a=f:5:e:2\n" in behind_the_end
    assert "id: a=f:6\n" in behind_the_next


def ids(stream: EventStream, *channels: str) -> list[str]:
    """The id of each write, of one event on a channel."""
    written = [stream.encode(frames(event(channel, 1))).decode() for channel in channels]
    return [text.partition("id: ")[2].partition("\n")[0] for text in written]


def test_an_id_that_is_too_long_says_that_positions_are_not_known() -> None:
    assert ["a=e:1", "a=e:1,b=e:1", "", ""] == ids(EventStream(id_bytes_max=11), "a", "b", "c", "a")
    assert ["too-long", "too-long"] == ids(EventStream(id_bytes_max=4), "a", "b")
    assert ["", ""] == ids(EventStream(id_bytes_max=4, has_id=True), "a", "b")
    with pytest.raises(RequestError):
        read_event_id("too-long")


async def opening(edge_port: int, version: str) -> tuple[str, str]:
    """Open a stream; its head, and what comes up to its first message's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge_port)
    writer.write(f"GET /events?channels=a HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    body = (await reader.readuntil(b"\n\n")).decode()
    writer.close()
    return head, body


@pytest.mark.parametrize(("version", "chunked"), [("1.0", False), ("1.1", True)])
async def test_only_http_1_1_gets_chunks(make_edge: MakeEdge, version: str, chunked: bool) -> None:
    head, body = await opening((await make_edge()).port, version)

    assert ("Transfer-Encoding: chunked" in head) is chunked
    assert body.startswith("event: connected\n") is not chunked


async def test_a_stream_is_not_to_be_transformed_and_offers_no_session(make_edge: MakeEdge) -> None:
    head, body = await opening((await make_edge()).port, "1.0")
    connected = json.loads(body.partition("data: ")[2])

    assert "Cache-Control: no-store, no-transform" in head
    assert {"client_id", "heartbeat_seconds"} <= set(connected)
    assert not {"session", "session_ttl_seconds"} & set(connected)
