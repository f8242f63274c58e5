"""A client's side of the protocol: messages in, replies and subscriptions out.

A session outlives its connection. While attached it owns a `Reader`; when the connection ends it
keeps identity, subscriptions, positions and personal log until it expires, and a client that
brings its secret attaches again.

Positions are what the client is *known* to have received. Bytes handed to a socket may be lost
with it, so what counts is the last answered ping: a WebSocket is ordered, and who answers a ping
has seen what was written before it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec

from gateway.core import channels, messages, requests
from gateway.core.channels import EVERYONE, PERSONAL
from gateway.core.errors import ErrorCode, RequestError
from gateway.core.fanout import Fanout
from gateway.core.frames import text_frame
from gateway.core.ingest import timestamp
from gateway.core.log import ChannelLog, gap_frame
from gateway.core.messages import Position
from gateway.core.numbering import ORIGIN, Cursor
from gateway.core.readers import Cursors, Reader
from gateway.core.requests import error_message
from gateway.core.views import Selection, View


_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Changed:
    """What a message did to a client's subscriptions, for the ``connections`` channel."""

    subscribed: tuple[str, ...] = ()
    unsubscribed: tuple[str, ...] = ()


class _Plan:
    """Where the channels of a subscribe message begin, and what is to be said about it."""

    __slots__ = ("brief", "logs", "lost", "recovered", "starts")

    def __init__(self) -> None:
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


class Session:
    """One client: who it is, what it follows, how far it is known to have come."""

    def __init__(
        self,
        *,
        client_id: str,
        user_id: str | None,
        fanout: Fanout,
        subscriptions_max: int,
        bus: Callable[[], messages.BusState],
    ) -> None:
        self.client_id = client_id
        self.user_id = user_id
        self.secret = ""
        self.subscriptions: dict[str, Selection] = {}
        """What the client follows, by pattern."""
        self.personal: ChannelLog | None = None
        self.reader: Reader | None = None
        self._bus = bus
        self._fanout = fanout
        self._subscriptions_max = subscriptions_max
        self._known: Cursors = {}
        self._pinged: tuple[bytes, Cursors] | None = None

    # -- attach and detach ---------------------------------------------------------------------

    def attach(self, reader: Reader, *, since: Mapping[str, Position] | None, now_ns: int) -> None:
        """Bind the session to a new connection; one that was lost goes on where it stood."""
        reader.personal = self.personal
        self.reader = reader
        resumed = list(self.subscriptions)
        plan = self._start_own(since or {})
        if resumed:
            self._restore(plan, since or {})
        if resumed or plan.recovered:
            self._reply_subscribed(plan, resumed, msgspec.UNSET, now_ns)
        self._begin(plan.starts)
        self._fanout.follow(reader, self._view, plan.starts)

    def _begin(self, starts: Cursors, *, followed: Collection[str] = ()) -> None:
        """Note where channels begin, also for a ping that is under way.

        In a channel that was `followed` already, what is not confirmed stays so.
        """

        def begun(known: Cursors) -> Cursors:
            kept = {name: min(known.get(name, at), at) for name, at in starts.items()}
            return {**known, **starts, **{name: kept[name] for name in followed if name in kept}}

        self._known = begun(self._known)
        if self._pinged is not None:
            payload, places = self._pinged
            self._pinged = (payload, begun(places))

    def detach(self) -> None:
        """Let go of the connection; what is unconfirmed will be sent again."""
        if self.reader is not None:
            self._fanout.remove(self.reader)
            self.reader = None
        self._pinged = None

    def _start_own(self, since: Mapping[str, Position]) -> _Plan:
        """Plan the channels that every client follows: everyone's, and its own."""
        plan = _Plan()
        everyone = self._fanout.log(EVERYONE)
        assert everyone is not None
        for log in (everyone, self.personal):
            if log is None:
                continue
            if log.name in since:
                plan.recover(log, since[log.name])
            else:
                new = log.newest if log is everyone else ORIGIN
                plan.start(log, self._known.get(log.name, new))
        return plan

    def _restore(self, plan: _Plan, since: Mapping[str, Position]) -> None:
        """Plan the subscriptions of a session that was lost."""
        for log in self._fanout.expected(self.subscriptions, since):
            if log.name in since:
                plan.recover(log, since[log.name])
            else:
                plan.resume(log, self._known.get(log.name, ORIGIN))

    # -- liveness ------------------------------------------------------------------------------

    def pinged(self, payload: bytes, heads: Cursors) -> None:
        """Note what has been written before a ping; `heads` is shared by all live readers."""
        reader = self.reader
        if reader is not None:
            at_head = self._fanout.is_at_head(reader)
            places = heads if at_head else self._fanout.places(reader)
            if self.personal is not None and at_head:
                places = {**heads, PERSONAL: self.personal.newest}
            self._pinged = (payload, places)

    def ponged(self, payload: bytes) -> None:
        """Take a pong: everything written before its ping has arrived."""
        if self._pinged is not None and self._pinged[0] == payload:
            self._known = self._pinged[1]
            self._pinged = None

    # -- messages ------------------------------------------------------------------------------

    def receive(self, text: str | bytes, *, now_ns: int) -> Changed | None:
        """Handle one message; replies are written to the reader at once.

        Never raises for what a client sends: it is told with an ``error`` message.
        """
        try:
            message = requests.parse(text)
        except RequestError as error:
            self.send(error_message(error, requests.id_of(text)))
            return None
        try:
            match message:
                case messages.Subscribe():
                    return self._subscribe(message, now_ns)
                case messages.Unsubscribe():
                    return self._unsubscribe(message, now_ns)
                case messages.GetSubscriptions():
                    self._reply_subscriptions(message.id, now_ns)
                case messages.Ping():
                    stamp = timestamp(now_ns)
                    self.send(
                        messages.Pong(id=message.id, timestamp=stamp, positions=self.positions())
                    )
                case messages.Auth():
                    raise RequestError(
                        ErrorCode.UNSUPPORTED, "authentication is not configured on this gateway"
                    )
        except RequestError as error:
            self.send(error_message(error, message.id))
        return None

    def open(
        self,
        message: messages.Subscribe,
        *,
        now_ns: int,
    ) -> Changed | None:
        """Subscribe to what a client asked for with its address."""
        try:
            return self._subscribe(message, now_ns)
        except RequestError as error:
            self.send(error_message(error, msgspec.UNSET))
            return None

    def send(self, message: messages.ServerMessage) -> None:
        """Write a message to the client, if it is there."""
        if self.reader is not None:
            self.reader.write(text_frame(_encode(message)))

    def positions(self) -> dict[str, Position]:
        """Return where the client stands in every log that it follows."""
        if self.reader is None:
            return {}
        places = self._fanout.places(self.reader)
        logs = [*self._fanout.logs_of(self.reader), *self._fanout.expected(self.subscriptions)]
        return {log.name: log.numbering.position(places.get(log.name, ORIGIN)) for log in logs}

    @property
    def _view(self) -> View:
        return frozenset(self.subscriptions.values())

    def _subscribe(self, message: messages.Subscribe, now_ns: int) -> Changed:
        reader = self.reader
        assert reader is not None
        asked = requests.split(message)
        names = [one.channel for one in asked]
        new = [name for name in names if name not in self.subscriptions]
        if len(self.subscriptions) + len(new) > self._subscriptions_max:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"{len(self.subscriptions)} subscriptions and {len(new)} more exceed the "
                f"limit of {self._subscriptions_max}; a wildcard may serve",
            )
        plan = _Plan()
        # Wildcards first: what a channel asks for itself holds, wherever it stands.
        current = self._fanout.places(reader)
        for one in sorted(asked, key=lambda one: not channels.is_wildcard(one.channel)):
            self._plan(plan, one, current)
        self.subscriptions |= {one.channel: one.selection for one in asked}
        self._begin(plan.starts, followed=current)
        self._reply_subscribed(plan, names, message.id, now_ns)
        self._fanout.follow(reader, self._view, plan.starts, brief=plan.brief)
        return Changed(subscribed=tuple(names))

    def _plan(self, plan: _Plan, asked: requests.Asked, current: Cursors) -> None:
        """Decide where each log that is asked for begins for this client."""
        since = asked.since
        named = since if isinstance(since, dict) else ()
        for log in self._fanout.expected([asked.channel], named):
            stands = current.get(log.name, log.newest)
            if isinstance(since, Position):
                plan.recover(log, since)
            elif since is not None and log.name in since:
                plan.recover(log, since[log.name])
            elif since is not None and channels.is_wildcard(asked.channel):
                # The client followed this pattern and has no position here: the channel is new.
                plan.resume(log, ORIGIN)
            elif asked.last == 1:
                # The current value, or that of each key, however long ago it changed.
                oldest = next(iter(log.current(ORIGIN)), None)
                first = log.newest if oldest is None else oldest.before
                plan.start(log, min(first, stands))
                if first <= stands:  # else it lags, and is owed more than that
                    plan.brief.add(log.name)
            elif asked.last is not None:
                # Who lags is owed more than the last few, and gets it.
                plan.start(log, min(log.back(asked.last), stands))
            elif log.name not in plan.starts:
                plan.start(log, stands)

    def _reply_subscribed(
        self, plan: _Plan, names: Collection[str], id_: messages.OptionalId, now_ns: int
    ) -> None:
        self.send(
            messages.Subscribed(
                id=id_,
                channels=list(names),
                timestamp=timestamp(now_ns),
                bus=self._bus(),
                positions=plan.positions(),
                recovered=plan.recovered,
                denied=[],
            )
        )
        for log in plan.lost.values():
            if self.reader is not None:
                epoch, offset = msgspec.structs.astuple(log.numbering.position(log.start))
                self.reader.write(gap_frame(log.name, epoch, "epoch", last=offset))

    def _reply_subscriptions(self, id_: messages.OptionalId, now_ns: int) -> None:
        options = {
            one.pattern: messages.Conditions(one.filter.text if one.filter else None, one.rate)
            for one in self.subscriptions.values()
            if one.filter is not None or one.rate is not None
        }
        self.send(
            messages.Subscriptions(
                id=id_,
                channels=list(self.subscriptions),
                timestamp=timestamp(now_ns),
                conditions=options or msgspec.UNSET,
            )
        )

    def _unsubscribe(self, message: messages.Unsubscribe, now_ns: int) -> Changed:
        assert self.reader is not None
        gone = [name for name in dict.fromkeys(message.channels) if name in self.subscriptions]
        for name in gone:
            del self.subscriptions[name]
        self._fanout.follow(self.reader, self._view, {})
        self.send(messages.Unsubscribed(id=message.id, channels=gone, timestamp=timestamp(now_ns)))
        return Changed(unsubscribed=tuple(gone))
