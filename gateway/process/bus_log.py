"""What the log says of the bus: the same thing once per interval, however often it happens; all of it is counted elsewhere."""

import logging
from collections.abc import Iterable

from gateway.bus.subscriber import Subscriber
from gateway.core.ingest.rejections import Rejection
from gateway.runtime.logs import Throttle, logger


log = logger("gateway")

_SECONDS = 1.0
_REFUSED_SECONDS = 10.0
"""The interval for failed handshakes: a peer that failed tries again at once, without end."""


class BusLog:
    """`now` is the event loop's time."""

    def __init__(self) -> None:
        self._throttle = Throttle(count=1, interval_seconds=_SECONDS)
        self._endpoints = Throttle(count=1, interval_seconds=_SECONDS)
        self._refusals = Throttle(count=1, interval_seconds=_REFUSED_SECONDS)

    def rejected(self, rejections: Iterable[Rejection], *, endpoint: str, now: float) -> None:
        for rejection in rejections:
            suppressed = self._throttle.allow(rejection.reason, now=now)
            if suppressed is not None:
                log.warning(
                    "event_rejected",
                    reason=rejection.reason,
                    detail=rejection.detail,
                    topic=rejection.topic,
                    frames=rejection.frames,
                    endpoint=endpoint,
                    publisher=rejection.publisher,
                    suppressed=suppressed,
                )

    def channel_closed(self, channel: str, *, now: float) -> None:
        suppressed = self._throttle.allow("channel_closed", now=now)
        if suppressed is not None:
            log.info("channel_closed", channel=channel, suppressed=suppressed)

    def histories_cut(self, bytes_max: int, *, now: float) -> None:
        suppressed = self._throttle.allow("histories_cut", now=now)
        if suppressed is not None:
            log.warning("histories_cut", bytes_max=bytes_max, suppressed=suppressed)

    def endpoint_changed(self, subscriber: Subscriber, change: str, *, connected: bool, now: float) -> None:
        """Log what a `Subscriber` reports; `connected` tells whether any endpoint has a peer."""
        refused = "refused" in {change, subscriber.state}
        throttle = self._refusals if refused else self._endpoints
        key = f"{subscriber.endpoint} {change} {subscriber.diagnosis.problem if refused else ''}"
        suppressed = throttle.allow(key, now=now)
        if suppressed is not None:
            # One endpoint without a publisher is usual, as there is one of each mode by default.
            alone = change == "waiting" and not connected
            log.log(
                logging.WARNING if refused or alone else logging.INFO,
                "bus_endpoint_changed",
                endpoint=subscriber.endpoint,
                change=change,
                peers=subscriber.peers,
                suppressed=suppressed,
                **({"problem": subscriber.diagnosis.problem} if refused or subscriber.diagnosis.problem else {}),
            )
