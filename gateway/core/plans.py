"""From where a client reads on: what `since` and `last` come to, channel by channel."""

from collections.abc import Iterable

from gateway.core import messages
from gateway.core.channels import is_wildcard
from gateway.core.errors import ErrorCode
from gateway.core.log import ChannelLog
from gateway.core.messages import Position
from gateway.core.numbering import ORIGIN, Cursor
from gateway.core.readers import Cursors
from gateway.core.requests import Asked
from gateway.core.rights import Identity


class Plan:
    """Where channels begin for a client, and what is to be said about it."""

    __slots__ = ("brief", "denied", "logs", "lost", "recovered", "starts")

    def __init__(self) -> None:
        self.denied: list[messages.Denied] = []
        self.logs: dict[str, ChannelLog] = {}
        self.starts: dict[str, Cursor] = {}
        self.recovered: dict[str, bool] = {}
        self.lost: dict[str, ChannelLog] = {}
        self.brief: set[str] = set()

    def start(self, log: ChannelLog, after: Cursor) -> None:
        """Begin behind a place."""
        self.logs[log.name] = log
        self.starts[log.name] = after

    def resume(self, log: ChannelLog, after: Cursor) -> None:
        """Begin behind a place that the client had reached: what is missing will be a gap."""
        self.start(log, after)
        self.recovered[log.name] = log.missing(after) is None

    def recover(self, log: ChannelLog, since: Position) -> None:
        """Resume from a position that the client brings; one of another life is lost."""
        after = log.numbering.find(since, ahead_max=log.retention.events_max)
        if after is not None:
            self.resume(log, after)
        else:
            self.start(log, log.start)
            self.recovered[log.name] = False
            self.lost[log.name] = log

    def positions(self) -> dict[str, Position]:
        return {
            name: self.logs[name].numbering.position(place) for name, place in self.starts.items()
        }

    def ask(self, asked: Asked, logs: Iterable[ChannelLog], current: Cursors) -> None:
        """Decide where each log that is asked for begins for a client that stands at `current`."""
        since = asked.since
        for log in logs:
            stands = current.get(log.name, log.newest)
            if isinstance(since, Position):
                self.recover(log, since)
            elif since is not None and log.name in since:
                self.recover(log, since[log.name])
            elif since is not None and is_wildcard(asked.channel):
                # The client followed this pattern and has no position here: the channel is new.
                self.resume(log, ORIGIN)
            elif asked.last == 1:
                # The current value, or that of each key, however long ago it changed.
                oldest = next(iter(log.current(ORIGIN)), None)
                first = log.newest if oldest is None else oldest.before
                self.start(log, min(first, stands))
                if first <= stands:  # else it lags, and is owed more than that
                    self.brief.add(log.name)
            elif asked.last is not None:
                # Who lags is owed more than the last few, and gets it.
                self.start(log, min(log.back(asked.last), stands))
            elif log.name not in self.starts:
                self.start(log, stands)


def denial(channel: str, identity: Identity) -> messages.Denied:
    """Say why a channel is not served to somebody."""
    if identity.is_anonymous:
        code, text = ErrorCode.UNAUTHORIZED, "a token is needed to follow this channel"
    else:
        code, text = ErrorCode.FORBIDDEN, "none of your roles may follow this channel"
    return messages.Denied(channel, code.word, text)
