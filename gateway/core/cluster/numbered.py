"""Events that the engine has numbered, on their way to a log."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.core.log.log import ChannelLog
from gateway.core.protocol.events import Event, MissingRange


class NumberedEvent(Struct, frozen=True):
    """An event with the `offset` that the engine gave it, in the source `epoch`.

    If it `begins` its source, as another gateway has the lease now, what came before is not known."""

    epoch: int
    offset: int
    fields: bytes
    begins: bool = False


class ChannelEvent(Struct, frozen=True):
    """The same on a channel; `engine` is the epoch of the engine's data when it was numbered.

    `place` is its number among those of all channels, 0 in its channel's own stream."""

    channel: str
    engine: int
    numbered: NumberedEvent
    place: int = 0


def numbered(found: Mapping[str, bytes]) -> NumberedEvent:
    """Read an entry of a stream. Raises KeyError, ValueError: it is none of this gateway's kind."""
    return NumberedEvent(int(found["epoch"], 16), int(found["offset"]), found["event"], found.get("begins") == b"1")


def channel_event(found: Mapping[str, bytes], channel: str | None = None) -> ChannelEvent:
    """Read an entry of a channel's stream, or of that of all channels. Raises as `numbered`."""
    place = int(found["number"]) if channel is None else 0
    name = found["channel"].decode() if channel is None else channel
    return ChannelEvent(name, int(found["engine"], 16), numbered(found), place)


def is_behind(log: ChannelLog | None, epoch: int, offset: int) -> bool:
    """Return whether a log lacks an event that the engine has numbered, as far as it knows the source."""
    reached = 0 if log is None else log.reached(epoch)
    return reached is not None and offset > reached


def is_next(log: ChannelLog | None, one: NumberedEvent) -> bool:
    """Return whether nothing is missing between a log and an event; so it is, too, if the log has the event already."""
    return not is_behind(log, one.epoch, one.offset - 1)


def new_event(
    log: ChannelLog | None, channel: str, one: NumberedEvent, *, now_ns: int, late: bool = False, unknown: bool = False
) -> Event | None:
    """Return an event for a log, with what is missing before it; None if the log has it already.

    `unknown` is whether it is not known what came before its source began."""
    reached = 0 if log is None else log.reached(one.epoch)
    missing: tuple[MissingRange, ...] = ()
    if reached is None:  # the log has forgotten how far the source had come
        missing = (MissingRange(one.offset - 1, one.offset - 1, "epoch"),)
    elif one.offset <= reached:
        return None
    else:
        if one.offset > reached + 1:
            # The engine numbers each source from 1, and keeps the newest: those before the first that comes are missing, too.
            missing = (MissingRange(reached + 1, one.offset - 1, "bus_loss" if reached else "evicted"),)
        if unknown and not reached:
            missing = (MissingRange(0, 0, "epoch"), *missing)
    return Event(channel, one.fields, now_ns, incarnation=one.epoch, sequence=one.offset, missing=missing, late=late)
