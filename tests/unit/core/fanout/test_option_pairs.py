"""Every two options of a subscription together do what the table of docs/protocol.md says.

`robots` holds the events 1 to 6, `other` 1 and 2. The client subscribes to `robots`, or to all channels. Then the events
7, 8 and 9 come in one moment, 10 and 11 a little later, and two seconds pass. Their keys are b and a in turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from gateway.core.log.retention import Retention
from gateway.core.protocol.frames import each_frame, text_payload
from gateway.core.protocol.msgpack import from_frame
from tests.support.core import SECOND, Core, Peer, make_hub


DOCUMENT = Path(__file__).parents[4] / "docs" / "protocol.md"

OPTIONS: dict[str, dict[str, Any]] = {
    "`last: n`": {"last": 3},
    "`last: 1`": {"last": 1},
    "`since`": {"since": {"robots": {"epoch": "e1", "offset": 2}}},
    "`filter`": {"filter": "!(n in [6, 9])"},
    "`rate`": {"rate": 1},
    "`binary`": {"binary": True},
    "`key`": {},
    "a pattern": {},
    "MessagePack": {},
}
_IMPOSSIBLE = {frozenset({"`last: n`", "`last: 1`"})}
ALL = [pair for pair in combinations(OPTIONS, 2) if frozenset(pair) not in _IMPOSSIBLE]


class Got(NamedTuple):
    """The events that a client gets, and how many a gap says were conflated."""

    first: tuple[int | str, ...]
    """At once; those of `other` as text."""
    later: tuple[int, ...] = (7, 8, 9, 10, 11)
    conflated: int = 0


NOTHING = Got(())
LAST_3 = Got((4, 5, 6))
LAST = Got((6,))
SINCE = Got((3, 4, 5, 6))
FILTERED = Got((), (7, 8, 10, 11))
AT_A_RATE = Got((), (9, 11), 3)

EXPECTED = {
    ("`last: n`", "`since`"): SINCE,
    ("`last: n`", "`filter`"): Got((4, 5), FILTERED.later),
    ("`last: n`", "`rate`"): Got(LAST_3.first, *AT_A_RATE[1:]),
    ("`last: n`", "`binary`"): LAST_3,
    ("`last: n`", "`key`"): LAST_3,
    ("`last: n`", "a pattern"): Got((4, 5, 6, "1", "2")),
    ("`last: n`", "MessagePack"): LAST_3,
    ("`last: 1`", "`since`"): SINCE,
    ("`last: 1`", "`filter`"): FILTERED,
    ("`last: 1`", "`rate`"): Got(LAST.first, *AT_A_RATE[1:]),
    ("`last: 1`", "`binary`"): LAST,
    ("`last: 1`", "`key`"): Got((5, 6)),
    ("`last: 1`", "a pattern"): Got((6, "2")),
    ("`last: 1`", "MessagePack"): LAST,
    ("`since`", "`filter`"): Got((3, 4, 5), FILTERED.later),
    ("`since`", "`rate`"): Got((6,), AT_A_RATE.later, 3 + AT_A_RATE.conflated),
    ("`since`", "`binary`"): SINCE,
    ("`since`", "`key`"): SINCE,
    ("`since`", "a pattern"): Got((3, 4, 5, 6, "1", "2")),
    ("`since`", "MessagePack"): SINCE,
    ("`filter`", "`rate`"): Got((), (8, 11), 2),
    ("`filter`", "`binary`"): FILTERED,
    ("`filter`", "`key`"): FILTERED,
    ("`filter`", "a pattern"): FILTERED,
    ("`filter`", "MessagePack"): FILTERED,
    ("`rate`", "`binary`"): AT_A_RATE,
    ("`rate`", "`key`"): Got((), (8, 9, 10, 11), 1),
    ("`rate`", "a pattern"): AT_A_RATE,
    ("`rate`", "MessagePack"): AT_A_RATE,
    ("`binary`", "`key`"): NOTHING,
    ("`binary`", "a pattern"): NOTHING,
    ("`binary`", "MessagePack"): NOTHING,
    ("`key`", "a pattern"): NOTHING,
    ("`key`", "MessagePack"): NOTHING,
    ("a pattern", "MessagePack"): NOTHING,
}


class PackedPeer(Peer):
    """Gets MessagePack; an event's bytes are its `data` there."""

    def _write(self, data: bytes) -> None:
        for frame in each_frame(data):
            self.received.append(msgspec.msgpack.decode(text_payload(from_frame(frame)[0])))


def publish(hub: Core, channel: str, *numbers: int, at: float = 0) -> None:
    payload = b'{"event_type":"x","n":%d,"host":"%b","data_base64":"/9j/"}'
    frames = [[channel.encode(), payload % (n, b"b" if n % 2 else b"a")] for n in numbers]
    hub.tick(frames, now_ns=round(at * SECOND))


def events(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the events, those of `other` last: no order between channels is promised."""
    for channel in ("robots", "other"):
        yield from (one for one in messages if one["type"] == "event" and one["channel"] == channel)


@pytest.mark.parametrize("pair", ALL, ids=" and ".join)
def test_a_pair_of_options(pair: tuple[str, str]) -> None:
    keyed = Retention(key=("host",))
    hub = make_hub(retentions={"robots": keyed} if "`key`" in pair else None)
    publish(hub, "robots", *range(1, 7))
    publish(hub, "other", 1, 2)
    peer = (PackedPeer if "MessagePack" in pair else Peer)(hub, "p")
    peer.connect()
    options = OPTIONS[pair[0]] | OPTIONS[pair[1]]
    first = peer.send(type="subscribe", channels=[">" if "a pattern" in pair else "robots"], **options)
    peer.take()
    publish(hub, "robots", 7, 8, 9, at=1)
    publish(hub, "robots", 10, 11, at=1.1)
    hub.fanout.flush(now_ns=3 * SECOND)
    later = peer.take()

    assert EXPECTED[pair] == Got(
        tuple(str(one["n"]) if one["channel"] == "other" else one["n"] for one in events(first)),
        tuple(one["n"] for one in events(later)),
        sum(one["count"] for one in first + later if one.get("reason") == "conflated"),
    )
    form = "data" if "MessagePack" in pair else "bytes" if "`binary`" in pair else "data_base64"
    assert {form} == {name for one in events(first + later) for name in one if name in {"data", "bytes", "data_base64"}}


def test_the_document_has_each_pair() -> None:
    table = DOCUMENT.read_text().partition("each means with a pattern")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [row.split(", ") for row in re.findall(r"^\| (\S.*?) \|", table, re.MULTILINE)]
    named = {
        frozenset({one, other})
        for one, *others in rows
        for other in (OPTIONS if others == ["any other"] else others)
        if one != other
    }

    assert {frozenset(pair) for pair in ALL} == named
