"""Warnings to clients whose filters fail on events, which they then do not get."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.fanout.failed_filters import Failed
from gateway.core.fanout.filters import Filter
from gateway.core.protocol.events import timestamp
from gateway.core.protocol.messages import WarningMessage
from gateway.core.sessions.session import Session


INTERVAL_NS = 60 * 1_000_000_000


@dataclass(slots=True)
class _Failing:
    """A subscription whose filter fails: how often since the last warning, and when the next one may be sent."""

    count: int = 0
    due_ns: int = 0


class FilterWarnings:
    """Sends each client one warning at once for each subscription, and then one a minute while its filter fails.

    Events that are read by several clients, or again by one, count each time they are evaluated. A subscription
    whose filter did not fail for a minute is forgotten, so there are at most as many as clients have."""

    def __init__(self) -> None:
        self._failing: dict[tuple[str, str, Filter], _Failing] = {}

    def send(self, failed: Mapping[str, Failed], sessions: Mapping[str, Session], *, now_ns: int) -> None:
        """Count what failed by channel, and send the warnings that are due."""
        for session in sessions.values() if failed else ():
            self._count(failed, session)
        for key, one in list(self._failing.items()):
            if now_ns < one.due_ns:
                continue
            client_id, pattern, filter_ = key
            session_ = sessions.get(client_id)
            held = None if session_ is None else session_.subscriptions.get(pattern)
            if session_ is None or held is None or held.filter != filter_ or one.count == 0:
                del self._failing[key]
                continue
            session_.send(_warning(pattern, filter_, one.count, now_ns))
            one.count, one.due_ns = 0, now_ns + INTERVAL_NS

    def _count(self, failed: Mapping[str, Failed], session: Session) -> None:
        for one in session.subscriptions.values():
            if one.filter is None:
                continue
            for channel, of_channel in failed.items():
                count = of_channel.get(one.filter)
                # A subscription to the channel itself decides alone.
                decides = one.pattern == channel or (channel not in session.subscriptions and one.selects(channel))
                if count and decides:
                    self._failing.setdefault((session.client_id, one.pattern, one.filter), _Failing()).count += count


def _warning(pattern: str, filter_: Filter, count: int, now_ns: int) -> WarningMessage:
    events = "1 event" if count == 1 else f"{count} events"
    return WarningMessage(
        code="filter_failed",
        channel=pattern,
        count=count,
        message=f"the filter of `{pattern}` failed on {events}, which are not sent: a member is missing or has another "
        f"type, or the result is not a boolean; test members with `has(data.x)`: {filter_.text}",
        timestamp=timestamp(now_ns),
    )
