"""Heartbeats: the publisher's incarnation and name, and the newest number of each topic.

They are sent like events, and in order with them, so that a gateway notices what is missing even
if no event follows.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson


TOPIC = b"$heartbeat"
"""The first frame; no topic can have this name."""

_TOPICS_PER_MESSAGE = 1000


def payloads(
    *,
    incarnation: int,
    name: str,
    interval: float,
    replay: str | None,
    replay_key: str | None,
    sequences: Mapping[str, int],
) -> list[bytes]:
    """Return the second frames of one heartbeat, in order: one message for every 1,000 topics.

    `interval` is the maximum time until the next one in seconds, 0 in a farewell; `replay` is the endpoint for replay
    requests, `replay_key` its public CURVE key; `sequences` has the newest number of each topic.
    """
    topics = iter(sequences.items())
    left = len(sequences)
    messages: list[bytes] = []
    while left > 0 or not messages:
        left -= _TOPICS_PER_MESSAGE
        message: dict[str, Any] = {
            "incarnation": f"{incarnation:016x}",
            "name": name,
            "interval": interval,
            "replay": replay,
            **({"replay_key": replay_key} if replay_key else {}),
            "sequences": dict(islice(topics, _TOPICS_PER_MESSAGE)),
        }
        if left > 0:
            message["more"] = True
        messages.append(orjson.dumps(message))
    return messages
