"""What clients ask for: messages taken apart and checked, with errors that name the field."""

from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.core import channels, messages
from gateway.core.errors import ErrorCode, RequestError
from gateway.core.filters import Filter, FilterError
from gateway.core.filters import parse as parse_filter
from gateway.core.messages import ChannelRequest, Position
from gateway.core.views import Selection


_decoder: msgspec.json.Decoder[messages.ClientMessage] = msgspec.json.Decoder(
    messages.ClientMessage
)


class _OnlyId(msgspec.Struct):
    id: messages.OptionalId = msgspec.UNSET


_decode_id = msgspec.json.Decoder(_OnlyId).decode

# What msgspec raises; of a text with half a character in it, what encoding that raises.
_NOT_JSON = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)


def error_message(error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> messages.Error:
    """Return what tells a client about its mistake."""
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
    """Read one message.

    Raises:
        RequestError: It is not JSON, of no known type, or a field is wrong.
    """
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        word = str(error)
        if "$.type`" in word or "missing required field `type`" in word:
            raise RequestError(
                ErrorCode.UNKNOWN_TYPE,
                "`type` is one of subscribe, unsubscribe, get_subscriptions, ping, auth",
            ) from error
        raise RequestError(ErrorCode.INVALID_FIELD, word) from error
    except _NOT_JSON as error:
        raise RequestError(ErrorCode.INVALID_JSON, str(error)) from error


def id_of(text: str | bytes) -> messages.OptionalId:
    """Return the id of a message that is otherwise wrong, so that the error can echo it."""
    try:
        return _decode_id(text).id
    except _NOT_JSON:
        return msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Asked:
    """One channel or pattern of a subscribe message, with the options that hold for it."""

    channel: str
    since: Position | dict[str, Position] | None
    last: int | None
    selection: Selection


def split(message: messages.Subscribe) -> list[Asked]:
    """Give each channel of a message its options, and check them; of one named twice, the last.

    Raises:
        RequestError: A name, a position or an option is not one.
    """
    common = read_since(message.since)
    if len(message.channels) > 1 and isinstance(common, Position):
        raise RequestError(
            ErrorCode.INVALID_FIELD, "`since` for several channels names a position for each"
        )
    asked: dict[str, Asked] = {}
    for one in message.channels:
        own = ChannelRequest(channel=one) if isinstance(one, str) else one
        _check(own.channel)
        since = common if own.since is None else read_since(own.since)
        if isinstance(since, Position) and channels.is_wildcard(own.channel):
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"`since` of the wildcard {own.channel!r} must name a position for each channel",
            )
        last = message.last if own.last is None else own.last
        asked[own.channel] = Asked(own.channel, since, last, _select(own, message))
    return list(asked.values())


def read_since(since: dict[str, Any] | None) -> Position | dict[str, Position] | None:
    """Tell a single position from one position per channel.

    Raises:
        RequestError: It is neither.
    """
    if since is None:
        return None
    try:
        if since.keys() == {"epoch", "offset"} and not isinstance(since["epoch"], dict):
            return msgspec.convert(since, Position)
        return msgspec.convert(since, dict[str, Position])
    except msgspec.ValidationError as error:
        raise RequestError(ErrorCode.INVALID_FIELD, f"since: {error}") from error


def _select(own: ChannelRequest, common: messages.Options) -> Selection:
    text = common.filter if own.filter is None else own.filter
    rate = common.rate if own.rate is None else own.rate
    return Selection(own.channel, None if text is None else read_filter(text), rate)


def read_filter(text: str) -> Filter:
    """Read a condition.

    Raises:
        RequestError: It is none; the message points at the place.
    """
    try:
        return parse_filter(text)
    except FilterError as error:
        raise RequestError(ErrorCode.INVALID_FILTER, f"filter: {error}") from error


def _check(pattern: str) -> None:
    if not channels.is_pattern(pattern):
        raise RequestError(
            ErrorCode.INVALID_CHANNEL,
            f"{pattern[:128]!r} is not a channel: segments of [A-Za-z0-9_-] joined by dots, "
            "`*` for one segment, a final `>` for the rest",
        )
