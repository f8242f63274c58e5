"""A client's session: it handles messages, and keeps what outlives a connection.

A session has two states:

    attached  `reader` is set: a connection writes to the client
    detached  `reader` is None; the session keeps identity, subscriptions, places and personal log
              until it expires, and a client that connects with its secret attaches it again

`known` are the places that the client has confirmed, by channel. Bytes written to a socket can be lost
with the connection, so a place is confirmed only when the client answers a ping: a WebSocket is
ordered, so the client has received everything that was written before the ping. When a session is
attached again, its channels continue at `known`, unless the client has positions of its own. What it missed
is sent in parts, with a ping behind a part while none is under way: so a client that is slow, and loses each
of its connections, still comes further with each.

Invariants: the client has received everything before its places in `known`. If a channel starts at
another place, because of `since` or `last`, then also in `known` and in the pings under way."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import msgspec

from gateway.core.fanout.cohorts import Cursors, Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import Subscription, View
from gateway.core.log.gaps import encode_gap
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import ORIGIN
from gateway.core.protocol import channels, messages
from gateway.core.protocol.channels import PERSONAL
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import timestamp, unix_timestamp
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Position
from gateway.core.sessions import requests
from gateway.core.sessions.counts import ClientCounts
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.rate_limit import ClientLimits, Kind, RateLimiter
from gateway.core.sessions.requests import SubscriptionStarts, denial, error_message


_encode = msgspec.json.Encoder().encode
_at = attrgetter("at")
_PINGS_MAX = 3
_PART = b"part"
"""The payload of a ping behind a part; that of the heartbeat's pings is a number."""


Unanswered = messages.Auth | messages.Publish
"""A message that a session cannot answer alone."""


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """The patterns that a message subscribed to, unsubscribed from, or may not subscribe to."""

    subscribed: tuple[str, ...] = ()
    unsubscribed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class Session:
    client_id: str
    identity: Identity
    _fanout: Fanout
    _limits: ClientLimits
    _bus_state: Callable[[], messages.BusState]
    _counts: ClientCounts
    secret: str = ""
    earlier_secret: str = ""
    """The secret that the client resumed the session with, until it is known to have the new one."""
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    """By pattern."""
    known: Cursors = field(default_factory=dict)
    elsewhere: Mapping[str, Position] = field(default_factory=dict)
    """Positions that the client confirmed at another gateway; where it has none in `known`, it continues there."""
    engine: int = 0
    """The epoch of the cluster's engine in which the session began; 0 if the engine has not had it yet."""
    personal: ChannelLog | None = None
    numbered_written: int = 0
    """Up to which personal message that this gateway has numbered the engine knows of them."""
    reader: Reader | None = None
    excessive: bool = False
    """Whether the client exceeded a rate limit: its connection should read more slowly."""
    _rate_limiter: RateLimiter = field(init=False)
    """From `attach` on."""
    _pings: tuple[tuple[bytes, Cursors], ...] = ()
    """The pings under way, in order, each with the places before it."""

    @property
    def user_id(self) -> str | None:
        return self.identity.user_id

    # -- attach and detach ---------------------------------------------------------------------

    def attach(self, reader: Reader, *, since: Mapping[str, Position] | None, now_ns: int) -> None:
        """Attach the session to a new connection; its channels continue at `since`, else at `known`."""
        since = {**{name: at for name, at in self.elsewhere.items() if name not in self.known}, **(since or {})}
        reader.personal = self.personal
        reader.on_part = self._on_part
        self.reader = reader
        self._rate_limiter = RateLimiter(self._limits.rates)
        starts = SubscriptionStarts()
        starts.denied = self._remove_denied()  # the permissions may have changed
        everyone = self._fanout.everyone
        for log in (everyone, self.personal):
            if log is not None and log.name in since:
                starts.resume_since(log, since[log.name])
                if log is self.personal and log.name not in self.known and log.name in self.elsewhere:
                    starts.report_unknown(log, self.elsewhere[log.name])
            elif log is not None:
                first = log.newest if log is everyone else ORIGIN
                starts.start(log, self.known.get(log.name, first))
        if self.subscriptions:
            for log in self._fanout.expected(self.subscriptions.values(), since):
                if log.name in since:
                    starts.resume_since(log, since[log.name])
                else:
                    starts.resume(log, self.known.get(log.name, ORIGIN))
        if self.subscriptions or starts.recovered or starts.denied:
            self._reply_subscribed(starts, self.subscriptions, msgspec.UNSET, now_ns)
        self._note_starts(starts.cursors)
        self._fanout.subscribe(reader, self._view, starts.cursors)

    def _note_starts(self, starts: Cursors, *, subscribed: Collection[str] = ()) -> None:
        """Note where channels start in `known`, and in the pings under way.

        In the channels of `subscribed`, what is not confirmed stays so. A channel that is not open starts
        at its beginning also if nothing is noted; a client may name any number of them."""
        opened = self._fanout.channels
        starts = {name: at for name, at in starts.items() if name in opened or name == PERSONAL}

        def started(known: Cursors) -> Cursors:
            kept = [name for name in subscribed if name in starts]
            return {**known, **starts, **{name: min(known.get(name, ORIGIN), starts[name], key=_at) for name in kept}}

        self.known = started(self.known)
        self._pings = tuple([(payload, started(places)) for payload, places in self._pings])

    def detach(self) -> None:
        """Detach the session from its connection; what is not confirmed will be sent again."""
        if self.reader is not None:
            self._fanout.remove(self.reader)
            self.reader = None
        self._pings = ()

    # -- identity ------------------------------------------------------------------------------

    def authenticate(self, identity: Identity, id_: messages.OptionalId, *, now_ns: int) -> SubscriptionChange | None:
        """Change the identity, and remove the subscriptions that its permissions deny.
        Raises RequestError: the identity is that of another user."""
        if not self.identity.may_become(identity):
            raise RequestError(
                ErrorCode.FORBIDDEN,
                f"the token is for user {identity.user_id!r}, the connection for {self.user_id!r}; "
                "use a new connection for another user",
            )
        before = dict(self.subscriptions)
        self.identity = identity
        assert identity.expires_ns is not None
        self.send(
            messages.Authenticated(
                id=id_,
                user_id=identity.user_id,
                roles=list(identity.roles),
                token_expires=unix_timestamp(identity.expires_ns),
                timestamp=timestamp(now_ns),
            )
        )
        return self._apply_permissions(before, now_ns)

    def permit(self, identity: Identity, *, now_ns: int) -> SubscriptionChange | None:
        """Give the same client other permissions, and remove the subscriptions that these deny."""
        before = dict(self.subscriptions)
        self.identity = identity
        if self.reader is None:
            return None  # removed when it resumes
        return self._apply_permissions(before, now_ns)

    def _apply_permissions(self, before: Mapping[str, Subscription], now_ns: int) -> SubscriptionChange | None:
        denied = self._remove_denied()
        removed = [one.channel for one in denied]
        if removed:
            self.send(messages.Unsubscribed(channels=removed, timestamp=timestamp(now_ns), denied=denied))
        if self.subscriptions != before:
            self._update_view(before, now_ns)
        return SubscriptionChange(unsubscribed=tuple(removed)) if removed else None

    def _remove_denied(self) -> list[messages.Denied]:
        """Remove the subscriptions that the permissions deny; return them."""
        denied = []
        for name, one in list(self.subscriptions.items()):
            within = self.identity.permissions.within(name)
            if within is None or within:
                self.subscriptions[name] = one._replace(within=within)
            else:
                del self.subscriptions[name]
                denied.append(denial(name, self.identity))
        self._counts.denied += len(denied)
        return denied

    def _update_view(self, before: Mapping[str, Subscription], now_ns: int) -> None:
        """Subscribe the reader after a change of permissions; further channels start at their heads."""
        assert self.reader is not None
        starts = SubscriptionStarts()
        seen = {log.name for log in self._fanout.logs_of(self.reader)}
        for log in self._fanout.expected(self.subscriptions.values()):
            if log.name not in seen:
                starts.start(log, log.newest)
        changed = [name for name, one in self.subscriptions.items() if one != before[name]]
        if starts.cursors:
            self._note_starts(starts.cursors)
            self._reply_subscribed(starts, changed, msgspec.UNSET, now_ns)
        self._fanout.subscribe(self.reader, self._view, starts.cursors)

    # -- liveness ------------------------------------------------------------------------------

    def on_ping(self, payload: bytes, heads: Cursors) -> None:
        """Note the places before a ping that is sent; `heads` are those of plain live readers."""
        reader = self.reader
        if reader is not None:
            at_head = self._fanout.is_at_head(reader)
            places = heads if at_head else self._fanout.cursors_of(reader)
            if self.personal is not None and at_head:
                places = {**heads, PERSONAL: self.personal.newest}
            # If there are too many, the newest counts: a client may answer only that one (RFC 6455, section 5.5.3).
            self._pings = (*self._pings[: _PINGS_MAX - 1], (payload, places))

    def _on_part(self) -> None:
        """Have the client confirm a part of what it missed."""
        reader = self.reader
        if reader is not None and reader.ping is not None and not self._pings:
            self.on_ping(_PART, {})
            reader.ping(_PART)

    def on_pong(self, payload: bytes) -> None:
        """Confirm the places before the ping that this pong answers; earlier pings need no answer of their own."""
        for number, (sent, places) in enumerate(self._pings, 1):
            if sent == payload:
                self.known = places
                self._pings = self._pings[number:]
                return

    # -- messages ------------------------------------------------------------------------------

    def receive(self, text: str | bytes, *, now_ns: int) -> SubscriptionChange | Unanswered | None:
        """Handle one message; replies are written at once. Returns what it changed, or the message if it is `Unanswered`.

        For an invalid message it does not raise: it replies with an ``error`` message."""
        try:
            message = requests.parse(text)
        except RequestError as error:
            self.refuse_invalid(error, requests.id_of(text), now_ns=now_ns)
            return None
        self._counts.messages[str(message.__struct_config__.tag)] += 1
        try:
            self._charge(message, now_ns)
            match message:
                case messages.Subscribe():
                    return self._subscribe(message, now_ns, requests.warnings_of(text))
                case messages.Unsubscribe():
                    return self._unsubscribe(message, now_ns)
                case messages.GetSubscriptions():
                    self._reply_subscriptions(message.id, now_ns)
                case messages.Ping():
                    stamp = timestamp(now_ns)
                    self.send(messages.Pong(id=message.id, timestamp=stamp, positions=self.positions()))
                case messages.Auth() | messages.Publish():
                    return message
        except RequestError as error:
            self.refuse(error, message.id)
        return None

    def _charge(self, message: messages.ClientMessage, now_ns: int) -> None:
        kind: Kind = "messages"
        if isinstance(message, messages.Subscribe | messages.Unsubscribe):
            kind = "subscribes"
        elif isinstance(message, messages.Publish):
            kind = "publishes"
        elif isinstance(message, messages.Ping):
            kind = "pings"
        self._take_tokens(kind, 1, now_ns)

    def _take_tokens(self, kind: Kind, count: int, now_ns: int) -> None:
        """Charge the rate limiter. Raises RequestError: the client exceeds its limit, which is counted."""
        try:
            self._rate_limiter.charge(kind, count, now_ns=now_ns)
        except RequestError:
            self._counts.rate_limited[kind] += 1
            raise

    def refuse_invalid(self, error: RequestError, id_: messages.OptionalId = msgspec.UNSET, *, now_ns: int) -> None:
        """Reply to a message that cannot be read; it is charged like any other."""
        self._counts.messages["invalid"] += 1
        try:
            self._take_tokens("messages", 1, now_ns)
        except RequestError as excess:
            self.refuse(excess, id_)
        else:
            self.refuse(error, id_)

    def may_ping(self, *, now_ns: int) -> bool:
        """Charge a ping of the WebSocket protocol; return whether to answer it."""
        self._charge_or_pause("pings", 1, now_ns)
        return not self.excessive

    def charge_frames(self, count: int, *, now_ns: int) -> None:
        """Charge frames of the WebSocket protocol: each takes time, also if it is no message."""
        self._charge_or_pause("frames", count, now_ns)

    def _charge_or_pause(self, kind: Kind, count: int, now_ns: int) -> None:
        try:
            self._take_tokens(kind, count, now_ns)
        except RequestError:
            self.excessive = True

    def refuse(self, error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> None:
        self._counts.errors[error.code] += 1
        self.excessive = self.excessive or error.code is ErrorCode.RATE_LIMITED
        self.send(error_message(error, id_))

    def subscribe(self, message: messages.Subscribe, *, now_ns: int) -> SubscriptionChange | None:
        """Subscribe to the channels in a client's address."""
        try:
            return self._subscribe(message, now_ns)
        except RequestError as error:
            self.refuse(error)
            return None

    def confirm(self, message: messages.Publish, result: messages.BroadcastResult, *, now_ns: int) -> None:
        """Answer a message that was published."""
        assert result.position is not None
        self.send(
            messages.Published(
                id=message.id,
                channel=message.channel,
                position=result.position,
                recipients=result.recipients,
                bus=result.bus,
                timestamp=timestamp(now_ns),
            )
        )

    def send(self, message: messages.ServerMessage) -> None:
        if self.reader is not None:
            self.reader.writer.write(text_frame(_encode(message)))

    def positions(self) -> dict[str, Position]:
        """Return the positions behind what was written to the client, by channel."""
        if self.reader is None:
            return {}
        places = self._fanout.cursors_of(self.reader)
        logs = [*self._fanout.logs_of(self.reader), *self._fanout.expected(self.subscriptions.values())]
        return {log.name: log.position_of(places.get(log.name, ORIGIN)) for log in logs}

    @property
    def _view(self) -> View:
        return frozenset(self.subscriptions.values())

    def _subscribe(self, message: messages.Subscribe, now_ns: int, warnings: Sequence[str] = ()) -> SubscriptionChange:
        reader = self.reader
        assert reader is not None
        starts = SubscriptionStarts()
        allowed = []
        for one in requests.split(message):
            within = self.identity.permissions.within(one.channel)
            if within is None:
                allowed.append(one)
            elif within:
                allowed.append(replace(one, subscription=one.subscription._replace(within=within)))
            else:
                starts.denied.append(denial(one.channel, self.identity))
        names = [one.channel for one in allowed]
        self._check_number(names)
        # Wildcards first: the options of a channel itself override those of a wildcard.
        current = self._fanout.cursors_of(reader)
        for one in sorted(allowed, key=lambda one: not channels.is_wildcard(one.channel)):
            named = one.since if isinstance(one.since, dict) and channels.is_wildcard(one.channel) else ()
            starts.start_request(one, self._fanout.expected([one.subscription], named), current)
        self.subscriptions |= {one.channel: one.subscription for one in allowed}
        self._note_starts(starts.cursors, subscribed=current)
        unknown = [one.channel for one in allowed if one.since is None]
        misspelt = requests.misspelt_channels(unknown, self._fanout.channels, self.identity)
        warnings = [*warnings, *misspelt, *starts.warnings]
        self._reply_subscribed(starts, names, message.id, now_ns, warnings[: requests.WARNINGS_MAX])
        latest_only, history = starts.latest_only, starts.history
        self._fanout.subscribe(reader, self._view, starts.cursors, latest_only=latest_only, history=history)
        denied = tuple(one.channel for one in starts.denied)
        self._counts.denied += len(denied)
        return SubscriptionChange(subscribed=tuple(names), denied=denied)

    def _check_number(self, names: Collection[str]) -> None:
        subscribed = {*self.subscriptions, *names}
        limit = self._limits.subscriptions_max
        if len(subscribed) > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"{len(subscribed)} subscriptions would exceed the limit of {limit} "
                "(`clients.subscriptions_max`); subscribe to a wildcard instead",
            )
        wildcards, limit = sum(map(channels.is_wildcard, subscribed)), self._limits.wildcards_max
        if wildcards > limit:
            raise RequestError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"{wildcards} subscriptions to wildcards would exceed the limit of {limit} "
                "(`clients.wildcards_max`); subscribe to a wildcard that selects more instead",
            )

    def _reply_subscribed(
        self,
        starts: SubscriptionStarts,
        names: Collection[str],
        id_: messages.OptionalId,
        now_ns: int,
        warnings: Sequence[str] = (),
    ) -> None:
        reply = messages.Subscribed(
            id=id_,
            channels=list(names),
            timestamp=timestamp(now_ns),
            bus=self._bus_state(),
            positions=starts.positions(),
            recovered=starts.recovered,
            denied=starts.denied,
            warnings=list(warnings) or msgspec.UNSET,
        )
        self.send(reply)
        self._counts.channels_resumed.update(starts.recovered.values())
        for gap in starts.gaps():
            if self.reader is not None:
                self.reader.writer.write(encode_gap(gap))

    def _reply_subscriptions(self, id_: messages.OptionalId, now_ns: int) -> None:
        options = {
            one.pattern: messages.ViewOptions(one.filter.text if one.filter else None, one.rate, one.binary)
            for one in self.subscriptions.values()
            if one.filter is not None or one.rate is not None or one.binary
        }
        reply = messages.Subscriptions(
            id=id_, channels=list(self.subscriptions), timestamp=timestamp(now_ns), options=options or msgspec.UNSET
        )
        self.send(reply)

    def _unsubscribe(self, message: messages.Unsubscribe, now_ns: int) -> SubscriptionChange:
        assert self.reader is not None
        removed = [name for name in dict.fromkeys(message.channels) if name in self.subscriptions]
        for name in removed:
            del self.subscriptions[name]
        self._fanout.subscribe(self.reader, self._view, {})
        stamp = timestamp(now_ns)
        self.send(messages.Unsubscribed(id=message.id, channels=removed, timestamp=stamp))
        return SubscriptionChange(unsubscribed=tuple(removed))
