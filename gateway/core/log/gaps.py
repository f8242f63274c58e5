"""Gaps as entries of a log."""

import msgspec

from gateway.core.log.sources import Entry
from gateway.core.protocol.frames import text_frame
from gateway.core.protocol.messages import Gap


_decode_gap = msgspec.json.Decoder(Gap).decode


def behind(offset: int, entry: Entry) -> Entry:
    """Return a gap without what an offset covers."""
    gap = _decode_gap(entry.json)
    if gap.from_ is None or gap.from_ > offset:
        return entry
    gap.from_, gap.count = offset + 1, entry.offset - offset
    return msgspec.structs.replace(entry, before=offset, frame=encode_gap(gap))


def is_end(entry: Entry) -> bool:
    """Return whether an entry is a gap for the end of a source, which takes no offset."""
    return not entry.is_event and entry.before == entry.offset


def gap_of(entry: Entry) -> Gap:
    return _decode_gap(entry.json)


def filtered_gap(entry: Entry) -> Entry:
    """Return a gap with the source of an entry, for readers whose filter does not match it."""
    at = entry.offset
    gap = Gap(channel=entry.channel, epoch=entry.source, from_=at, to=at, count=1, reason="filtered")
    return msgspec.structs.replace(entry, frame=encode_gap(gap), is_event=False)


def encode_gap(gap: Gap) -> bytes:
    return text_frame(msgspec.json.encode(gap))
