"""One channel's recent events: numbered, encoded once, bounded by count, bytes and age."""

from dataclasses import dataclass

import msgspec
from msgspec import Struct

from gateway.core.events import Event
from gateway.core.frames import text_frame, text_payload
from gateway.core.messages import Gap, GapReason, Position


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a log holds; `age_ns_max` of 0 sets no limit. The newest event always stays."""

    events_max: int = 1000
    bytes_max: int = 16 * 1024 * 1024
    age_ns_max: int = 0


class Entry(Struct, frozen=True, gc=False):
    """An event in its log.

    `frame` is what every client gets: the event's WebSocket frame, and before it, in the first
    `lead` bytes, that of a gap, if events were lost on the bus right before it.
    """

    channel: str
    offset: int
    frame: bytes
    received_ns: int
    sent_ns: int
    lead: int = 0

    @property
    def json(self) -> bytes:
        """The event as it is sent, without framing."""
        return text_payload(self.frame[self.lead :])


class ChannelLog:
    """Events of one channel; the oldest make room for the newest.

    Offsets are contiguous from 1 within an `epoch`. ``start_offset`` is the oldest event held,
    ``end_offset`` the one that the next append gets: equal in an empty log. A position names the
    last event that a reader has seen, so the newest position is ``end_offset - 1``.
    """

    __slots__ = (
        "_entries",
        "_head",
        "_prefix",
        "bytes",
        "end_offset",
        "epoch",
        "name",
        "retention",
    )

    def __init__(self, name: str, *, epoch: str, retention: Retention) -> None:
        self.name = name
        self.epoch = epoch
        self.retention = retention
        self.end_offset = 1
        self.bytes = 0
        # A list with a moving head: a deque would make a read from the middle cost its length.
        self._entries: list[Entry | None] = []
        self._head = 0
        self._prefix = b'{"type":"event","channel":"%b","offset":' % name.encode()

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def start_offset(self) -> int:
        """The oldest event held."""
        return self.end_offset - len(self)

    @property
    def newest(self) -> int:
        """The offset of the last event appended, 0 before the first."""
        return self.end_offset - 1

    @property
    def position(self) -> Position:
        """The position of a reader who has seen everything."""
        return Position(self.epoch, self.end_offset - 1)

    def append(self, event: Event) -> Entry:
        """Number and encode an event; evict what exceeds the retention."""
        offset = self.end_offset
        frame = text_frame(b"%b%d,%b}" % (self._prefix, offset, event.fields))
        lead = b""
        if event.lost:
            lead = gap_frame(self, reason="bus_loss", count=event.lost)
            frame = lead + frame
        entry = Entry(self.name, offset, frame, event.received_ns, event.sent_ns, len(lead))
        self._entries.append(entry)
        self.end_offset = offset + 1
        self.bytes += len(frame)
        retention = self.retention
        if (
            len(self._entries) - self._head > retention.events_max
            or self.bytes > retention.bytes_max
            or retention.age_ns_max
        ):
            self.evict(now_ns=event.received_ns)
        return entry

    def evict(self, *, now_ns: int) -> None:
        """Drop what the retention no longer covers at `now_ns`, but never the newest event."""
        retention, entries = self.retention, self._entries
        born_min = now_ns - retention.age_ns_max if retention.age_ns_max else -1
        while len(entries) - self._head > 1:
            oldest = entries[self._head]
            assert oldest is not None
            if (
                len(entries) - self._head <= retention.events_max
                and self.bytes <= retention.bytes_max
                and oldest.received_ns >= born_min
            ):
                break
            entries[self._head] = None
            self._head += 1
            self.bytes -= len(oldest.frame)
        if self._head > 64 and self._head * 2 > len(entries):
            del entries[: self._head]
            self._head = 0

    def read(self, after: int, *, bytes_max: int) -> list[Entry]:
        """Return the oldest events held after offset `after`: about `bytes_max`, at least one.

        Compare `after` with ``start_offset`` to know what is no longer held.
        """
        at = self._head + max(after + 1 - self.start_offset, 0)
        batch: list[Entry] = []
        size = 0
        for entry in self._entries[at : at + 4096]:
            assert entry is not None
            batch.append(entry)
            size += len(entry.frame)
            if size >= bytes_max:
                break
        return batch


def gap_frame(
    log: ChannelLog,
    *,
    reason: GapReason,
    first: int | None = None,
    last: int | None = None,
    count: int | None = None,
) -> bytes:
    """Return the frame that tells a reader of `log` which events it will not get."""
    if first is not None and last is not None:
        count = last - first + 1
    gap = Gap(channel=log.name, epoch=log.epoch, from_=first, to=last, count=count, reason=reason)
    return text_frame(msgspec.json.encode(gap))
