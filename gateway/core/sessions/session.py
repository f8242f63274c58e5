"""A client's side of the protocol: messages in, replies and subscriptions out.

A session outlives its connection. While attached it owns a `Reader`; when the connection ends it
keeps identity, subscriptions, positions and personal log until it expires, and a client that
brings its secret attaches again.

Positions are what the client is *known* to have received. Bytes handed to a socket may be lost
with it, so what counts is the last answered ping: a WebSocket is ordered, and who answers a ping
has seen what was written before it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import msgspec

from gateway.core.fanout.cohorts import Cursors, Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import Subscription, View
from gateway.core.ingest.ingest import timestamp
from gateway.core.log.epochs import ORIGIN
from gateway.core.log.log import ChannelLog, gap_frame
from gateway.core.protocol import channels, messages
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Position
from gateway.core.sessions import requests
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.rate_limit import ClientLimits, Kind, RateLimiter
from gateway.core.sessions.requests import SubscriptionStarts, denial, error_message


_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What a message did to a client's subscriptions, for the ``connections`` channel."""

    subscribed: tuple[str, ...] = ()
    unsubscribed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class Session:
    """One client: who it is, what it follows, how far it is known to have come."""

    def __init__(
        self,
        *,
        client_id: str,
        identity: Identity,
        fanout: Fanout,
        allowed: ClientLimits,
        bus: Callable[[], messages.BusState],
    ) -> None:
        self.client_id = client_id
        self.identity = identity
        self.secret = ""
        self.subscriptions: dict[str, Subscription] = {}
        """What the client follows, by pattern."""
        self.known: Cursors = {}
        self.personal: ChannelLog | None = None
        self.reader: Reader | None = None
        self.excessive = False
        """Whether it has asked for more than it may: whoever reads its messages should slow down."""
        self._bus = bus
        self._fanout = fanout
        self._allowed = allowed
        self._rate_limiter = RateLimiter(allowed.rates)
        self._pinged: tuple[bytes, Cursors] | None = None

    @property
    def user_id(self) -> str | None:
        """The user whose client it is, if known."""
        return self.identity.user_id

    # -- attach and detach ---------------------------------------------------------------------

    def attach(self, reader: Reader, *, since: Mapping[str, Position] | None, now_ns: int) -> None:
        """Bind the session to a new connection; one that was lost goes on where it stood."""
        reader.personal = self.personal
        self.reader = reader
        self._rate_limiter = RateLimiter(self._allowed.rates)
        plan = self._start_own(since or {})
        plan.denied = self._judge()  # what was followed before says nothing of what may be now
        if self.subscriptions:
            self._restore(plan, since or {})
        if self.subscriptions or plan.recovered or plan.denied:
            self._reply_subscribed(plan, self.subscriptions, msgspec.UNSET, now_ns)
        self._begin(plan.starts)
        self._fanout.subscribe(reader, self._view, plan.starts)

    def _begin(self, starts: Cursors, *, followed: Collection[str] = ()) -> None:
        """Note where channels begin, also for a ping that is under way.

        In a channel that was `followed` already, what is not confirmed stays so.
        """

        def begun(known: Cursors) -> Cursors:
            kept = {name: min(known.get(name, at), at) for name, at in starts.items()}
            return {**known, **starts, **{name: kept[name] for name in followed if name in kept}}

        self.known = begun(self.known)
        if self._pinged is not None:
            payload, places = self._pinged
            self._pinged = (payload, begun(places))

    def detach(self) -> None:
        """Let go of the connection; what is unconfirmed will be sent again."""
        if self.reader is not None:
            self._fanout.remove(self.reader)
            self.reader = None
        self._pinged = None

    def _start_own(self, since: Mapping[str, Position]) -> SubscriptionStarts:
        """Plan the channels that every client follows: everyone's, and its own."""
        plan = SubscriptionStarts()
        everyone = self._fanout.log(EVERYONE)
        assert everyone is not None
        for log in (everyone, self.personal):
            if log is None:
                continue
            if log.name in since:
                plan.recover(log, since[log.name])
            else:
                new = log.newest if log is everyone else ORIGIN
                plan.start(log, self.known.get(log.name, new))
        return plan

    def _restore(self, plan: SubscriptionStarts, since: Mapping[str, Position]) -> None:
        """Plan the subscriptions of a session that was lost."""
        for log in self._fanout.expected(self.subscriptions.values(), since):
            if log.name in since:
                plan.recover(log, since[log.name])
            else:
                plan.resume(log, self.known.get(log.name, ORIGIN))

    # -- identity ------------------------------------------------------------------------------

    def authenticate(
        self, identity: Identity, id_: messages.OptionalId, *, now_ns: int
    ) -> SubscriptionChange | None:
        """Go on with other rights, from this moment on for what is followed already, too.

        Raises:
            RequestError: The identity is that of another user.
        """
        if not self.identity.may_become(identity):
            raise RequestError(
                ErrorCode.FORBIDDEN, "this client is another user's; connect anew to change users"
            )
        before = dict(self.subscriptions)
        self.identity = identity
        assert identity.expires_ns is not None
        self.send(
            messages.Authenticated(
                id=id_,
                user_id=identity.user_id,
                roles=list(identity.roles),
                token_expires=timestamp(identity.expires_ns),
                timestamp=timestamp(now_ns),
            )
        )
        denied = self._judge()
        gone = tuple(name for name in before if name not in self.subscriptions)
        if gone:
            self.send(
                messages.Unsubscribed(
                    channels=list(gone), timestamp=timestamp(now_ns), denied=denied
                )
            )
        if self.subscriptions != before:
            self._see_anew(before, now_ns)
        return SubscriptionChange(unsubscribed=gone) if gone else None

    def _judge(self) -> list[messages.Denied]:
        """Hold every subscription against the rights; return those that had to go."""
        denied = []
        for name, one in list(self.subscriptions.items()):
            within = self.identity.permissions.within(name)
            if within is None or within:
                self.subscriptions[name] = one._replace(within=within)
            else:
                del self.subscriptions[name]
                denied.append(denial(name, self.identity))
        return denied

    def _see_anew(self, before: Mapping[str, Subscription], now_ns: int) -> None:
        """Follow what the rights allow now; channels that come into sight begin where they stand."""
        assert self.reader is not None
        plan = SubscriptionStarts()
        seen = {log.name for log in self._fanout.logs_of(self.reader)}
        for log in self._fanout.expected(self.subscriptions.values()):
            if log.name not in seen:
                plan.start(log, log.newest)
        changed = [name for name, one in self.subscriptions.items() if one != before[name]]
        if plan.starts:
            self._begin(plan.starts)
            self._reply_subscribed(plan, changed, msgspec.UNSET, now_ns)
        self._fanout.subscribe(self.reader, self._view, plan.starts)

    # -- liveness ------------------------------------------------------------------------------

    def pinged(self, payload: bytes, heads: Cursors) -> None:
        """Note what has been written before a ping; `heads` is shared by all live readers."""
        reader = self.reader
        if reader is not None:
            at_head = self._fanout.is_at_head(reader)
            places = heads if at_head else self._fanout.cursors_of(reader)
            if self.personal is not None and at_head:
                places = {**heads, PERSONAL: self.personal.newest}
            self._pinged = (payload, places)

    def ponged(self, payload: bytes) -> None:
        """Take a pong: everything written before its ping has arrived."""
        if self._pinged is not None and self._pinged[0] == payload:
            self.known = self._pinged[1]
            self._pinged = None

    # -- messages ------------------------------------------------------------------------------

    def receive(
        self, text: str | bytes, *, now_ns: int
    ) -> SubscriptionChange | messages.Auth | None:
        """Handle one message; replies are written at once. A token is for `authenticate`.

        Never raises for what a client sends: it is told with an ``error`` message.
        """
        try:
            message = requests.parse(text)
        except RequestError as error:
            self._refuse_unread(error, text, now_ns)
            return None
        try:
            self._spend(message, now_ns)
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
                    return message
        except RequestError as error:
            self.refuse(error, message.id)
        return None

    def _spend(self, message: messages.ClientMessage, now_ns: int) -> None:
        """Take a message from its allowance.

        Raises:
            RequestError: Nothing is left of it for now.
        """
        kind: Kind
        match message:
            case messages.Subscribe() | messages.Unsubscribe():
                kind = "subscribes"
            case messages.Ping():
                kind = "pings"
            case _:
                kind = "messages"
        self._rate_limiter.take(kind, now_ns=now_ns)

    def _refuse_unread(self, error: RequestError, text: str | bytes, now_ns: int) -> None:
        try:
            self._rate_limiter.take("messages", now_ns=now_ns)
        except RequestError as excess:
            error = excess
        self.refuse(error, requests.id_of(text))

    def may_ping(self, *, now_ns: int) -> bool:
        """Tell whether a ping of the WebSocket protocol is answered, and count it."""
        try:
            self._rate_limiter.take("pings", now_ns=now_ns)
        except RequestError:
            self.excessive = True
        return not self.excessive

    def refuse(self, error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> None:
        """Tell the client that something it asked for was not done."""
        self.excessive = self.excessive or error.code is ErrorCode.RATE_LIMITED
        self.send(error_message(error, id_))

    def open(self, message: messages.Subscribe, *, now_ns: int) -> SubscriptionChange | None:
        """Subscribe to what a client asked for with its address."""
        try:
            return self._subscribe(message, now_ns)
        except RequestError as error:
            self.refuse(error)
            return None

    def send(self, message: messages.ServerMessage) -> None:
        """Write a message to the client, if it is there."""
        if self.reader is not None:
            self.reader.writer.write(text_frame(_encode(message)))

    def positions(self) -> dict[str, Position]:
        """Return where the client stands in every log that it follows."""
        if self.reader is None:
            return {}
        places = self._fanout.cursors_of(self.reader)
        logs = [
            *self._fanout.logs_of(self.reader),
            *self._fanout.expected(self.subscriptions.values()),
        ]
        return {log.name: log.epochs.position(places.get(log.name, ORIGIN)) for log in logs}

    @property
    def _view(self) -> View:
        return frozenset(self.subscriptions.values())

    def _subscribe(self, message: messages.Subscribe, now_ns: int) -> SubscriptionChange:
        reader = self.reader
        assert reader is not None
        plan = SubscriptionStarts()
        asked = []
        for one in requests.split(message):
            within = self.identity.permissions.within(one.channel)
            if within is None or within:
                asked.append(replace(one, selection=one.selection._replace(within=within)))
            else:
                plan.denied.append(denial(one.channel, self.identity))
        names = [one.channel for one in asked]
        self._check_number(names)
        # Wildcards first: what a channel asks for itself holds, wherever it stands.
        current = self._fanout.cursors_of(reader)
        for one in sorted(asked, key=lambda one: not channels.is_wildcard(one.channel)):
            named = one.since if isinstance(one.since, dict) else ()
            plan.ask(one, self._fanout.expected([one.selection], named), current)
        self.subscriptions |= {one.channel: one.selection for one in asked}
        self._begin(plan.starts, followed=current)
        self._reply_subscribed(plan, names, message.id, now_ns)
        self._fanout.subscribe(reader, self._view, plan.starts, latest_only=plan.latest_only)
        denied = tuple(one.channel for one in plan.denied)
        return SubscriptionChange(subscribed=tuple(names), denied=denied)

    def _check_number(self, names: Collection[str]) -> None:
        new = [name for name in names if name not in self.subscriptions]
        count, limit = len(self.subscriptions), self._allowed.subscriptions_max
        if count + len(new) > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"{count} subscriptions and {len(new)} more exceed the limit of {limit}; "
                "a wildcard may serve",
            )
        limit = self._allowed.wildcards_max
        if sum(map(channels.is_wildcard, [*self.subscriptions, *new])) > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"more than {limit} subscriptions with wildcards; a wider one may serve",
            )

    def _reply_subscribed(
        self,
        plan: SubscriptionStarts,
        names: Collection[str],
        id_: messages.OptionalId,
        now_ns: int,
    ) -> None:
        self.send(
            messages.Subscribed(
                id=id_,
                channels=list(names),
                timestamp=timestamp(now_ns),
                bus=self._bus(),
                positions=plan.positions(),
                recovered=plan.recovered,
                denied=plan.denied,
            )
        )
        for log in plan.lost.values():
            if self.reader is not None:
                epoch, offset = msgspec.structs.astuple(log.epochs.position(log.start))
                self.reader.writer.write(gap_frame(log.name, epoch, "epoch", last=offset))

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

    def _unsubscribe(self, message: messages.Unsubscribe, now_ns: int) -> SubscriptionChange:
        assert self.reader is not None
        gone = [name for name in dict.fromkeys(message.channels) if name in self.subscriptions]
        for name in gone:
            del self.subscriptions[name]
        self._fanout.subscribe(self.reader, self._view, {})
        self.send(messages.Unsubscribed(id=message.id, channels=gone, timestamp=timestamp(now_ns)))
        return SubscriptionChange(unsubscribed=tuple(gone))
