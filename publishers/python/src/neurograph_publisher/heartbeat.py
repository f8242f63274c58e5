"""The sign of life that goes along with a publisher's events; see docs/protocol.md, part 1."""

from collections.abc import Iterator, Mapping
from itertools import islice

import orjson


TOPIC = b"$heartbeat"
FLAG = 1
"""In envelopes: this publisher sends heartbeats."""
TOPICS_MAX = 1000
"""Topics that one heartbeat names; a publisher with more sends several in a row."""


def payloads(
    sequences: Mapping[str, int],
    *,
    incarnation: int,
    name: str,
    interval_seconds: float,
    replay: str | None,
) -> Iterator[bytes]:
    """Return the heartbeats that name the newest number of every topic.

    An interval of 0 is a farewell; `replay` is where messages can be asked for.
    """
    rest = iter(sequences.items())
    left = len(sequences)
    while True:
        part = dict(islice(rest, TOPICS_MAX))
        left -= len(part)
        beat = {
            "incarnation": f"{incarnation:016x}",
            "name": name,
            "interval": interval_seconds,
            "replay": replay,
            "sequences": part,
        }
        yield orjson.dumps({**beat, "more": True} if left else beat)
        if not left:
            return
