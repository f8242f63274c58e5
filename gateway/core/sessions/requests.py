"""Clients' requests: parsing and validation, and where subscriptions start."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from gateway.core.fanout.cohorts import Cursors
from gateway.core.fanout.filters import Filter, FilterError
from gateway.core.fanout.filters import parse as parse_filter
from gateway.core.fanout.views import Subscription
from gateway.core.log.log import ChannelLog
from gateway.core.log.places import Resumed
from gateway.core.log.sources import ORIGIN, Cursor
from gateway.core.protocol import channels, messages
from gateway.core.protocol.channels import is_wildcard
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.messages import ChannelRequest, Position
from gateway.core.protocol.suggestions import did_you_mean, similar_channels
from gateway.core.sessions.permissions import Action, Identity


_decoder: msgspec.json.Decoder[messages.ClientMessage] = msgspec.json.Decoder(messages.ClientMessage)


class _OnlyId(msgspec.Struct):
    id: messages.OptionalId = msgspec.UNSET


_decode_id = msgspec.json.Decoder(_OnlyId).decode

WARNINGS_MAX = 10
_COMPARISONS_MAX = 2_000
"""Of channels' names, about a microsecond each."""
_at = attrgetter("at")
_SHOWN_CHARS = 40

# A text with an unpaired surrogate cannot be encoded as UTF-8, which msgspec does first.
_NOT_JSON = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)


def error_message(error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> messages.Error:
    code = error.code
    return messages.Error(
        id=id_,
        code=code.word,
        status=code.status,
        message=error.message,
        temporary=code.temporary,
        retry_after=msgspec.UNSET if error.retry_after is None else error.retry_after,
    )


def parse(text: str | bytes) -> messages.ClientMessage:
    """Decode a client's message.
    Raises RequestError: it is not JSON, its type is not known, or a field is not valid."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        problem = str(error)
        if "$.type`" in problem or "missing required field `type`" in problem:
            raise RequestError(
                ErrorCode.UNKNOWN_TYPE,
                f"{problem.removesuffix(' - at `$.type`')}; `type` must be one of {', '.join(messages.CLIENT_TYPES)}",
            ) from error
        raise RequestError(ErrorCode.INVALID_FIELD, problem) from error
    except _NOT_JSON as error:
        raise RequestError(ErrorCode.INVALID_JSON, str(error)) from error


def warnings_of(text: str | bytes) -> list[str]:
    """Return what a valid subscribe message has that is not known and so has no effect."""
    try:
        message: dict[str, Any] = msgspec.json.decode(text)
    except _NOT_JSON:  # what is not known may be nested too deeply
        return []
    known = {"type", *messages.Subscribe.__struct_fields__}
    found = _unknown("the message", message, known)
    for one in message["channels"]:
        if isinstance(one, dict) and len(found) < WARNINGS_MAX:
            found += _unknown(f"channel {one['channel']!r}", one, messages.ChannelRequest.__struct_fields__)
    return found[:WARNINGS_MAX]


def _unknown(where: str, members: Iterable[str], known: Iterable[str]) -> list[str]:
    known = list(known)
    names = [one[:_SHOWN_CHARS] for one in members if one not in known][:WARNINGS_MAX]
    return [f"{where}: `{name}` is not known{did_you_mean(name, known)}" for name in names]


def misspelt_channels(names: Iterable[str], open_: Collection[str], identity: Identity) -> list[str]:
    """Return warnings for channels that are not open, but named like an open one that the client may see.

    If many are open, only the first of them are compared."""
    unopened = [name for name in names if name not in open_ and not is_wildcard(name)][:WARNINGS_MAX]
    warnings = []
    for name in unopened:
        compared = islice(open_, _COMPARISONS_MAX // len(unopened))
        similar = (one for one in similar_channels(name, compared) if _is_visible(one, identity))
        near = next(similar, None)
        if near is not None:
            warnings.append(f"no such channel yet: `{name}`; did you mean `{near}`?")
    return warnings


def _is_visible(channel: str, identity: Identity) -> bool:
    return channels.is_name(channel) and identity.permissions.may(Action.SUBSCRIBE, channel)


def id_of(text: str | bytes) -> messages.OptionalId:
    """Return the id of a message that is not valid, for the error message."""
    try:
        return _decode_id(text).id
    except _NOT_JSON:
        return msgspec.UNSET


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """One pattern of a subscribe message, with the options that apply to it."""

    channel: str
    since: Position | dict[str, Position] | None
    last: int | None
    subscription: Subscription


def split(message: messages.Subscribe) -> list[SubscribeRequest]:
    """Return a request for each channel of a message; if one is named twice, for the last of the two.
    Raises RequestError: a channel, a position or a filter is not valid."""
    common = read_since(message.since)
    if len(message.channels) > 1 and isinstance(common, Position):
        raise RequestError(
            ErrorCode.INVALID_FIELD, "`since` for several channels must have a position for each channel, by name"
        )
    found: dict[str, SubscribeRequest] = {}
    for one in message.channels:
        own = ChannelRequest(channel=one) if isinstance(one, str) else one
        if not channels.is_pattern(own.channel):
            raise RequestError(
                ErrorCode.INVALID_CHANNEL,
                f"{own.channel[:128]!r} is not a valid channel; expected segments of [A-Za-z0-9_-] "
                "joined by dots, `*` for one segment, a final `>` for all further ones",
            )
        since = common if own.since is None else read_since(own.since)
        if isinstance(since, Position) and is_wildcard(own.channel):
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"`since` for the wildcard {own.channel!r} must have a position for each channel, by name",
            )
        last = message.last if own.last is None else own.last
        text = message.filter if own.filter is None else own.filter
        rate = message.rate if own.rate is None else own.rate
        binary = bool(message.binary if own.binary is None else own.binary)
        view = Subscription(own.channel, None if text is None else read_filter(text), rate, binary=binary)
        found[own.channel] = SubscribeRequest(own.channel, since, last, view)
    return list(found.values())


def read_since(since: dict[str, Any] | None) -> Position | dict[str, Position] | None:
    """Return one position, or a position for each channel. Raises RequestError: it is neither."""
    if since is None:
        return None
    try:
        if isinstance(since.get("epoch"), str):
            return msgspec.convert(since, Position)
        return msgspec.convert(since, dict[str, Position])
    except msgspec.ValidationError as error:
        raise RequestError(ErrorCode.INVALID_FIELD, f"since: {error}") from error


def read_filter(text: str) -> Filter:
    """Parse a filter. Raises RequestError: it is not valid; the message shows the position."""
    try:
        return parse_filter(text)
    except FilterError as error:
        raise RequestError(ErrorCode.INVALID_FILTER, f"filter: {error}") from error


class SubscriptionStarts:
    """Where channels start for a client, because of `since` and `last`; for a ``subscribed`` message."""

    __slots__ = ("cursors", "denied", "history", "latest_only", "logs", "lost", "recovered", "warnings")

    def __init__(self) -> None:
        self.denied: list[messages.Denied] = []
        self.logs: dict[str, ChannelLog] = {}
        self.cursors: dict[str, Cursor] = {}
        self.recovered: dict[str, bool] = {}
        self.lost: list[messages.Gap] = []
        """A gap of reason `epoch` for each source of which a log does not know what the client lacks."""
        self.latest_only: set[str] = set()
        self.history: set[str] = set()
        """Logs whose events up to now come whole, whatever the rate."""
        self.warnings: list[str] = []

    def start(self, log: ChannelLog, after: Cursor) -> None:
        self.logs[log.name] = log
        self.cursors[log.name] = after

    def resume(self, log: ChannelLog, after: Cursor) -> None:
        """Start behind a place that the client has reached; what is evicted there becomes a gap."""
        self.start(log, after)
        self.recovered[log.name] = not log.missing(after)

    def resume_since(self, log: ChannelLog, since: Position) -> None:
        """Resume behind a client's position; if the log knows none of its sources, start with the oldest entry."""
        found = log.resume(since, ahead_max=log.retention.events_max)
        if found.lost:
            self.start(log, found.cursor)
            self.recovered[log.name] = False
            self.lost += lost_gaps(log, found)
        else:
            self.resume(log, found.cursor)

    def report_unknown(self, log: ChannelLog, elsewhere: Position) -> None:
        """Report each source of a log elsewhere that this one does not know, also if the client has nothing of it yet."""
        if any(gap.channel == log.name for gap in self.lost):
            return  # resuming has reported it
        unknown = [id_ for id_ in elsewhere.offsets if id_ in log.resume(Position(id_, 0), ahead_max=0).lost]
        if unknown:
            self.recovered[log.name] = False
            self.lost += [log.gap("epoch", id_, None) for id_ in unknown]

    def gaps(self) -> list[messages.Gap]:
        """Return the gaps for what is lost, then such as name the source that the next event relies on, as clients take it
        to be of the source that a gap named last."""
        gaps = list(self.lost)
        for name in dict.fromkeys(gap.channel for gap in self.lost if gap.to is None):
            log, after = self.logs[name], self.cursors[name]
            source = log.relied_on(after)
            if source:
                gaps.append(log.gap("filtered", source, after.position.offsets.get(source, 0)))
        return gaps

    def positions(self) -> dict[str, Position]:
        logs = self.logs
        return {name: logs[name].position_of(at) for name, at in self.cursors.items()}

    def start_request(self, request: SubscribeRequest, logs: Collection[ChannelLog], current: Cursors) -> None:
        """Start the logs that a request selects, for a client whose places are `current`."""
        since, last = request.since, request.last
        if since is None and last is None:
            self._start_all(logs, current)
            return
        for log in logs:
            place = current.get(log.name, log.newest)
            if isinstance(since, Position):
                self.resume_since(log, since)
            elif since is not None and log.name in since:
                self.resume_since(log, since[log.name])
            elif since is not None and is_wildcard(request.channel):
                # The client was subscribed to this wildcard and has no position: the channel is new.
                self.resume(log, ORIGIN)
            elif last == 1:
                # The current value, or that of each key, however long ago it changed.
                first = log.before_current()
                self.start(log, min(first, place, key=_at))
                if first.at <= place.at:  # else the client lags, and gets all events
                    self.latest_only.add(log.name)
                if log.values_dropped:
                    self.warnings.append(_values_dropped(log))
            elif last is not None:
                # A client that lags by more than `last` events gets all of them.
                self.start(log, min(log.before_last(last), place, key=_at))
                self.history.add(log.name)
            else:
                self._start_all([log], current)

    def _start_all(self, logs: Collection[ChannelLog], current: Cursors) -> None:
        """Start logs where the client is, else at their newest entries, unless another request has started them."""
        if self.cursors:
            logs = [log for log in logs if log.name not in self.cursors]
        self.logs.update({log.name: log for log in logs})
        self.cursors.update({log.name: current.get(log.name) or log.newest for log in logs})


def _values_dropped(log: ChannelLog) -> str:
    limits = f"`keys_max` is {log.retention.keys_max}, `bytes_max` {log.retention.bytes_max}"
    return (
        f"`{log.name}`: {log.values_dropped} current values were dropped, the least recently changed ({limits}); "
        "they are missing until they change again"
    )


def lost_gaps(log: ChannelLog, found: Resumed) -> list[messages.Gap]:
    """Return a gap for each source of a position that a log does not know; one for all if it knows none."""
    if found.lost and found.is_new:
        at = found.cursor.position
        return [log.gap("epoch", at.epoch, at.offset)]
    return [log.gap("epoch", source, None) for source in found.lost]


def denial(channel: str, identity: Identity) -> messages.Denied:
    """Return why a client may not subscribe to a channel."""
    if identity.is_anonymous:
        code, text = ErrorCode.UNAUTHORIZED, "a token is needed to subscribe to this channel"
    else:
        code, text = ErrorCode.FORBIDDEN, "none of your roles may subscribe to this channel"
    return messages.Denied(channel, code.word, text)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client that connects: its parameters, the id of a new session, and the new secret."""

    client_id: str
    secret: str
    identity: Identity
    session: str | None = None
    channels: Sequence[str] = ()
    last: int | None = None
    since: Mapping[str, Position] | None = None
    options: messages.ViewOptions = field(default_factory=messages.ViewOptions)

    @property
    def subscribe(self) -> messages.Subscribe:
        return messages.Subscribe(
            channels=list(self.channels),
            last=self.last,
            since=None if self.since is None else msgspec.to_builtins(self.since),
            filter=self.options.filter,
            rate=self.options.rate,
        )
