"""A channel's log, and events of several publishers for it."""

from __future__ import annotations

from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.protocol.events import Event, MissingRange


A, B, C = 0xA, 0xB, 0xC
EPOCH_A, EPOCH_B, EPOCH_C = f"{A:016x}", f"{B:016x}", f"{C:016x}"


def make_log(*, events_max: int = 1000, living: bool = True) -> ChannelLog:
    """Return a log; its publishers are known to be `living`, or may have ended when another one begins."""
    log = ChannelLog("robots", epoch="own", retention=Retention(events_max=events_max))
    log.has_ended = lambda _incarnation: not living
    return log


def add(
    log: ChannelLog, incarnation: int | None, *sequences: int, missing: tuple[MissingRange, ...] = (), now_ns: int = 0
) -> list[tuple[str, int, bool]]:
    """Append events; return each new entry's source and offset, and whether it is an event."""
    added: list[tuple[str, int, bool]] = []
    for sequence in sequences:
        entries = log.append(Event("robots", b'"data":1', now_ns, 0, incarnation, sequence, missing))
        added += [(entry.source, entry.offset, entry.is_event) for entry in entries]
    return added
