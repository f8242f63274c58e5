"""A client's side of the protocol: messages in, replies and subscriptions out.

A session outlives its connection. It has two states, told apart by `reader`:

    attached  a connection writes to the client through the session's `Reader`
    detached  it keeps identity, subscriptions, cursors and personal log until it expires;
              a client that brings its secret attaches it again

`known` is how far the client is known to have come, by channel. Bytes handed to a socket may be lost
with it, so `known` moves only when the client answers a ping: a WebSocket is ordered, so a client
that answers a ping has received what was written before it. A session that is attached again goes
on from `known`, unless the client brings positions of its own.

Invariants: `known` never stands behind what the client has not received. A channel that begins
anew, with `since` or `last`, begins anew in `known` and in the ping that is under way.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import msgspec

from gateway.core.fanout.cohorts import Cursors, Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import Subscription, View
from gateway.core.log.epochs import ORIGIN
from gateway.core.log.log import ChannelLog, gap_frame
from gateway.core.protocol import channels, messages
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import timestamp
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Position
from gateway.core.sessions import requests
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.rate_limit import ClientLimits, Kind, RateLimiter
from gateway.core.sessions.requests import SubscriptionStarts, denial, error_message


_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What a message changed in a client's subscriptions."""

    subscribed: tuple[str, ...] = ()
    unsubscribed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class Session:
    """One client: its identity, its subscriptions, and how far it is known to have come."""

    def __init__(
        self,
        *,
        client_id: str,
        identity: Identity,
        fanout: Fanout,
        limits: ClientLimits,
        bus_state: Callable[[], messages.BusState],
    ) -> None:
        self.client_id = client_id
        self.identity = identity
        self.secret = ""
        self.subscriptions: dict[str, Subscription] = {}
        """By pattern."""
        self.known: Cursors = {}
        self.personal: ChannelLog | None = None
        self.reader: Reader | None = None
        self.excessive = False
        """Whether it exceeded a rate limit: its connection should read from it more slowly."""
        self._bus_state = bus_state
        self._fanout = fanout
        self._limits = limits
        self._rate_limiter = RateLimiter(limits.rates)
        self._pinged: tuple[bytes, Cursors] | None = None

    @property
    def user_id(self) -> str | None:
        """The user that the client belongs to, if known."""
        return self.identity.user_id

    # -- attach and detach ---------------------------------------------------------------------

    def attach(self, reader: Reader, *, since: Mapping[str, Position] | None, now_ns: int) -> None:
        """Bind the session to a new connection; subscriptions go on where the client stood."""
        reader.personal = self.personal
        self.reader = reader
        self._rate_limiter = RateLimiter(self._limits.rates)
        starts = self._start_own(since or {})
        starts.denied = self._remove_denied()  # the permissions may be others than before
        if self.subscriptions:
            self._restore(starts, since or {})
        if self.subscriptions or starts.recovered or starts.denied:
            self._reply_subscribed(starts, self.subscriptions, msgspec.UNSET, now_ns)
        self._begin(starts.cursors)
        self._fanout.subscribe(reader, self._view, starts.cursors)

    def _begin(self, starts: Cursors, *, subscribed: Collection[str] = ()) -> None:
        """Note where channels begin, also for a ping that is under way.

        What is unconfirmed in the channels of `subscribed` stays so.
        """

        def begun(known: Cursors) -> Cursors:
            kept = {name: min(known.get(name, at), at) for name, at in starts.items()}
            return {**known, **starts, **{name: kept[name] for name in subscribed if name in kept}}

        self.known = begun(self.known)
        if self._pinged is not None:
            payload, places = self._pinged
            self._pinged = (payload, begun(places))

    def detach(self) -> None:
        """Unbind the session from its connection; what is unconfirmed will be sent again."""
        if self.reader is not None:
            self._fanout.remove(self.reader)
            self.reader = None
        self._pinged = None

    def _start_own(self, since: Mapping[str, Position]) -> SubscriptionStarts:
        """SubscriptionStarts the channels that every client follows: everyone's, and its own."""
        starts = SubscriptionStarts()
        everyone = self._fanout.log(EVERYONE)
        assert everyone is not None
        for log in (everyone, self.personal):
            if log is None:
                continue
            if log.name in since:
                starts.recover(log, since[log.name])
            else:
                new = log.newest if log is everyone else ORIGIN
                starts.begin(log, self.known.get(log.name, new))
        return starts

    def _restore(self, starts: SubscriptionStarts, since: Mapping[str, Position]) -> None:
        """SubscriptionStarts the subscriptions of a session that was lost."""
        for log in self._fanout.expected(self.subscriptions.values(), since):
            if log.name in since:
                starts.recover(log, since[log.name])
            else:
                starts.resume(log, self.known.get(log.name, ORIGIN))

    # -- identity ------------------------------------------------------------------------------

    def authenticate(
        self, identity: Identity, id_: messages.OptionalId, *, now_ns: int
    ) -> SubscriptionChange | None:
        """Go on with another identity; its permissions hold for present subscriptions too.

        Raises:
            RequestError: The identity is that of another user.
        """
        if not self.identity.may_become(identity):
            raise RequestError(
                ErrorCode.FORBIDDEN,
                "this client belongs to another user; connect anew to change users",
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
        denied = self._remove_denied()
        gone = tuple(name for name in before if name not in self.subscriptions)
        if gone:
            self.send(
                messages.Unsubscribed(
                    channels=list(gone), timestamp=timestamp(now_ns), denied=denied
                )
            )
        if self.subscriptions != before:
            self._update_view(before, now_ns)
        return SubscriptionChange(unsubscribed=gone) if gone else None

    def _remove_denied(self) -> list[messages.Denied]:
        """Remove subscriptions that the permissions no longer cover; return these."""
        denied = []
        for name, one in list(self.subscriptions.items()):
            within = self.identity.permissions.within(name)
            if within is None or within:
                self.subscriptions[name] = one._replace(within=within)
            else:
                del self.subscriptions[name]
                denied.append(denial(name, self.identity))
        return denied

    def _update_view(self, before: Mapping[str, Subscription], now_ns: int) -> None:
        """See what the permissions cover now; channels that become visible begin at their heads."""
        assert self.reader is not None
        starts = SubscriptionStarts()
        seen = {log.name for log in self._fanout.logs_of(self.reader)}
        for log in self._fanout.expected(self.subscriptions.values()):
            if log.name not in seen:
                starts.begin(log, log.newest)
        changed = [name for name, one in self.subscriptions.items() if one != before[name]]
        if starts.cursors:
            self._begin(starts.cursors)
            self._reply_subscribed(starts, changed, msgspec.UNSET, now_ns)
        self._fanout.subscribe(self.reader, self._view, starts.cursors)

    # -- liveness ------------------------------------------------------------------------------

    def on_ping(self, payload: bytes, heads: Cursors) -> None:
        """Note what was written before a ping; `heads` is shared by all live readers."""
        reader = self.reader
        if reader is not None:
            at_head = self._fanout.is_at_head(reader)
            places = heads if at_head else self._fanout.cursors_of(reader)
            if self.personal is not None and at_head:
                places = {**heads, PERSONAL: self.personal.newest}
            self._pinged = (payload, places)

    def on_pong(self, payload: bytes) -> None:
        """Note that everything written before this pong's ping was received."""
        if self._pinged is not None and self._pinged[0] == payload:
            self.known = self._pinged[1]
            self._pinged = None

    # -- messages ------------------------------------------------------------------------------

    def receive(
        self, text: str | bytes, *, now_ns: int
    ) -> SubscriptionChange | messages.Auth | None:
        """Handle one message; replies are written at once. Pass a returned token to `authenticate`.

        It does not raise for what a client sends: it answers with an ``error`` message.
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
        """Charge a message to its rate limit.

        Raises:
            RequestError: The limit is exhausted for now.
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
        """Charge a ping of the WebSocket protocol; return whether to answer it."""
        try:
            self._rate_limiter.take("pings", now_ns=now_ns)
        except RequestError:
            self.excessive = True
        return not self.excessive

    def refuse(self, error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> None:
        """Answer with an ``error`` message."""
        self.excessive = self.excessive or error.code is ErrorCode.RATE_LIMITED
        self.send(error_message(error, id_))

    def open(self, message: messages.Subscribe, *, now_ns: int) -> SubscriptionChange | None:
        """Subscribe to what a client's address asks for."""
        try:
            return self._subscribe(message, now_ns)
        except RequestError as error:
            self.refuse(error)
            return None

    def send(self, message: messages.ServerMessage) -> None:
        """Write a message to the client, if it is connected."""
        if self.reader is not None:
            self.reader.writer.write(text_frame(_encode(message)))

    def positions(self) -> dict[str, Position]:
        """Return where the client stands in every channel that it subscribes to."""
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
        starts = SubscriptionStarts()
        asked = []
        for one in requests.split(message):
            within = self.identity.permissions.within(one.channel)
            if within is None or within:
                asked.append(replace(one, subscription=one.subscription._replace(within=within)))
            else:
                starts.denied.append(denial(one.channel, self.identity))
        names = [one.channel for one in asked]
        self._check_number(names)
        # Wildcards first: options of a channel itself override those of a wildcard.
        current = self._fanout.cursors_of(reader)
        for one in sorted(asked, key=lambda one: not channels.is_wildcard(one.channel)):
            named = one.since if isinstance(one.since, dict) else ()
            starts.add(one, self._fanout.expected([one.subscription], named), current)
        self.subscriptions |= {one.channel: one.subscription for one in asked}
        self._begin(starts.cursors, subscribed=current)
        self._reply_subscribed(starts, names, message.id, now_ns)
        self._fanout.subscribe(reader, self._view, starts.cursors, latest_only=starts.latest_only)
        denied = tuple(one.channel for one in starts.denied)
        return SubscriptionChange(subscribed=tuple(names), denied=denied)

    def _check_number(self, names: Collection[str]) -> None:
        new = [name for name in names if name not in self.subscriptions]
        count, limit = len(self.subscriptions), self._limits.subscriptions_max
        if count + len(new) > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"{count} subscriptions and {len(new)} more exceed the limit of {limit}, "
                "`clients.subscriptions_max`; subscribe to a wildcard instead",
            )
        limit = self._limits.wildcards_max
        if sum(map(channels.is_wildcard, [*self.subscriptions, *new])) > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"more than {limit} subscriptions with wildcards, `clients.wildcards_max`; "
                "subscribe to a wider one instead",
            )

    def _reply_subscribed(
        self,
        starts: SubscriptionStarts,
        names: Collection[str],
        id_: messages.OptionalId,
        now_ns: int,
    ) -> None:
        self.send(
            messages.Subscribed(
                id=id_,
                channels=list(names),
                timestamp=timestamp(now_ns),
                bus=self._bus_state(),
                positions=starts.positions(),
                recovered=starts.recovered,
                denied=starts.denied,
            )
        )
        for log in starts.lost.values():
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
