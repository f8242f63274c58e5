"""The HTML by which notebooks show events, gaps, channels and the status."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Any

from neurograph_client import Event, Gap, History, Position, connect

from tests.support.gateway import Gateway
from tests.support.publisher import Publisher


HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Parses HTML into its tags and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


def event(data: Any, **members: Any) -> Event[Any]:
    given = {"channel": "robots.r2", "event_type": "moved", "timestamp": "2026-01-01T10:00:00Z", **members}
    return Event(epoch="e", offset=7, data=data, message={}, **given)


def test_html_escapes_what_publishers_send() -> None:
    hostile = event({HOSTILE: HOSTILE}, channel=HOSTILE, event_type=HOSTILE, timestamp=HOSTILE)
    gap = Gap(HOSTILE, HOSTILE, 1, 2, 2, "evicted")
    found = Tags(hostile._repr_html_() + gap._repr_html_() + event(HOSTILE)._repr_html_())

    assert set() == found.tags & {"script", "img"}
    assert {"style"} == found.attributes
    assert HOSTILE in found.text


def test_a_gap_says_what_is_missing_and_why() -> None:
    assert "gap: 2 events are missing (evicted)" in Tags(Gap("c", "e", 1, 2, 2, "evicted")._repr_html_()).text
    assert "an unknown number" in Tags(Gap("c", "e", None, None, None, "epoch")._repr_html_()).text


def test_images_are_shown_and_other_bytes_are_counted() -> None:
    assert "img" in Tags(event(b"\xff\xd8\xff\xe0 jpeg")._repr_html_()).tags
    assert "4 bytes" in Tags(event(b"\x00\x01\x02\x03")._repr_html_()).text


def test_long_histories_and_texts_are_shortened() -> None:
    found = Tags(History([event("x" * 100_000)] * 1000, Position("e", 7), None)._repr_html_())

    assert "the newest 50 of 1,000" in found.text
    assert len(found.text) < 50 * 700


def test_html_uses_only_colours_that_suit_light_and_dark_pages() -> None:
    html = event({"x": 1})._repr_html_() + Gap("c", "e", 1, 2, 2, "evicted")._repr_html_()

    assert "background:#" not in html
    assert "color:inherit" in html


async def test_the_status_of_a_gateway_is_shown_as_html(gateway: Gateway, bus: Publisher, channel: str) -> None:
    bus.send_numbered(channel, range(1, 4))
    await gateway.holds(channel, 3)

    def ask() -> str:
        with connect(gateway.url) as client:
            shown = (client.status(), client.channels(), client.history(channel))
            return "".join(one._repr_html_() for one in shown)

    found = Tags(await asyncio.to_thread(ask))
    assert "ready" in found.text
    assert channel in found.text
    assert '{"n":3}' in found.text.replace(" ", "")
