"""Positions as text, ``EPOCH:OFFSET`` of each source in turn: in the ids of event streams, and in addresses."""

from msgspec import UNSET

from gateway.core.protocol.messages import Position


_DIGITS_MAX = 19


def position_text(position: Position) -> str:
    first = f"{position.epoch}:{position.offset}"
    if position.others is UNSET:
        return first
    return ":".join([first, *(f"{epoch}:{offset}" for epoch, offset in position.others.items())])


def read_position(text: str) -> Position:
    """Read a position. Raises ValueError: it is none."""
    parts = text.split(":")
    epochs, offsets = parts[::2], parts[1::2]
    if len(epochs) != len(offsets) or not all(one.isascii() and one.isdigit() for one in offsets):
        raise ValueError(f"{text[:80]!r} is not a position; expected EPOCH:OFFSET")
    if any(len(one) > _DIGITS_MAX or int(one) >= 2**63 for one in offsets):
        raise ValueError(f"{text[:80]!r} has an offset that is out of range")
    found = {epoch: int(offset) for epoch, offset in zip(epochs, offsets, strict=True)}
    first = epochs[0]
    return Position(first, found.pop(first), found or UNSET)
