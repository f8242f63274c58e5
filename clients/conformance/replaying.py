"""The publisher of cases in which a new gateway replays events."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from neurograph_publisher import Publisher

from tests.support.waiting import eventually


_KEPT = 10_000
_ANY = "a"


class Replaying:
    """Keeps its newest messages for replay; it has the interface of the publisher in tests/support."""

    def __init__(self, endpoint: str, *, bind: bool) -> None:
        self.sequences: dict[str, int] = defaultdict(int)
        connect = () if bind else endpoint
        self._publisher = Publisher(
            connect, bind=endpoint if bind else (), replay=_KEPT, heartbeat_seconds=0.1, name=endpoint[-64:]
        )
        self.incarnation = self._publisher.incarnation

    def send(self, channel: str, data: Any, *, enveloped: bool) -> None:
        """Publish an event, always with an envelope."""
        assert enveloped
        self.sequences[channel] += 1
        self._publisher.publish(channel, data, event_type="test.event")

    def send_payload(self, channel: str, payload: bytes, *, enveloped: bool) -> None:
        """Publish a payload unchanged."""
        assert enveloped
        self.sequences[channel] += 1
        self._publisher.publish(channel, json.loads(payload))

    async def subscribed(self) -> Replaying:
        """Wait until a gateway subscribes."""
        await eventually(lambda: self._publisher.watched(_ANY), saying="somebody subscribes")
        return self

    async def unsubscribed(self) -> None:
        """Return at once: a new gateway requests what it has missed."""

    def close(self) -> None:
        """Forget everything."""
        self._publisher.close()
