"""`gateway replay`: publish a recording on a bus."""

import heapq
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from neurograph_client.items import matches
from neurograph_client.recording.files import Record, RecordingError, read
from neurograph_client.terminal import output
from neurograph_client.terminal.options import bus_option, wait_option


_SECOND_NS = 1_000_000_000
_BEHIND_SECONDS = 0.005
_SET_BY_THE_GATEWAY = ("type", "channel", "offset", "epoch")


def _read_moment(text: str) -> tuple[bool, int]:
    """Return whether a moment counts from the recording's beginning (``+30``), and it in nanoseconds."""
    try:
        if text.startswith("+"):
            return True, round(float(text[1:]) * _SECOND_NS)
        moment = datetime.fromisoformat(text)
        return False, round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * _SECOND_NS)
    except (ValueError, OverflowError):
        expected = "a time such as 2026-11-28T12:00:00Z, or seconds from the beginning such as +30"
        raise click.BadParameter(f"{text!r} is not {expected}") from None


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--channels", "patterns", multiple=True, metavar="PATTERN", help="Only these channels.")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, help="10 is ten times as fast; 0 is without pauses."
)
@click.option("--from", "begin", type=_read_moment, metavar="MOMENT", help="Begin at this time, or at +SECONDS.")
@click.option("--to", "end", type=_read_moment, metavar="MOMENT", help="End before this time, or at +SECONDS.")
@click.option("--loop", is_flag=True, help="Begin anew at the end, until Ctrl-C.")
@click.option("--now", is_flag=True, help="Give each event the time of its replay, not its own.")
@bus_option
@click.option("--bind", help="Bind this endpoint instead, for gateways that connect.")
@wait_option("for a gateway to subscribe, and to receive each event")
def replay(
    files: tuple[Path, ...],
    patterns: tuple[str, ...],
    speed: float,
    begin: tuple[bool, int] | None,
    end: tuple[bool, int] | None,
    loop: bool,
    now: bool,
    bus: str,
    bind: str | None,
    wait_seconds: float,
) -> None:
    """Publish the events of a recording's FILES on a bus, at the pace at which they were recorded.

    They keep their own times, except events without an event type, which the bus carries without a time. All come
    from one publisher with envelopes, so a gateway detects and repairs what is lost on the way. Personal messages
    and those to everyone are left out. The files are sorted by time.

    The exit status is 0, 1 if there is no gateway or a file is damaged, 2 if an option is wrong, 130 after Ctrl-C.

    \b
    gateway replay run.mcap
    gateway replay run*.mcap --speed 10 --channels 'robots.>' --from +60 --to +120
    """
    try:
        from neurograph_publisher import Publisher
    except ImportError:
        raise output.CommandError("it needs the publisher's package: pip install neurograph-publisher") from None

    with output.clean_exit():
        try:
            first_ns = min((records[0].received_ns for records in map(_first, files) if records), default=0)
            window = (_moment(begin, first_ns, 0), _moment(end, first_ns, 2**63))
            publisher = Publisher(
                connect=() if bind else bus,
                bind=bind or (),
                replay=10_000,
                name=f"gateway-replay:{os.getpid()}",
                linger_seconds=wait_seconds,
            )
            with publisher:
                sender = _Sender(publisher, bind or bus, wait_seconds, now=now)
                while True:
                    sender.send_all(_selected(_merged(files), patterns, window), speed)
                    if not loop:
                        break
            output.notice(sender.summary())
        except (RecordingError, OSError) as error:
            raise output.CommandError(str(error)) from None


def _first(path: Path) -> list[Record]:
    return [record for record in [next(read(path), None)] if record is not None]


def _moment(given: tuple[bool, int] | None, first_ns: int, default: int) -> int:
    if given is None:
        return default
    from_start, value = given
    return first_ns + value if from_start else value


def _merged(files: Iterable[Path]) -> Iterator[Record]:
    return heapq.merge(*(read(path) for path in files), key=lambda record: record.received_ns)


def _selected(records: Iterable[Record], patterns: tuple[str, ...], window: tuple[int, int]) -> Iterator[Record]:
    for record in records:
        if record.kind != "event" or not window[0] <= record.received_ns < window[1]:
            continue
        if not patterns or any(matches(pattern, record.channel) for pattern in patterns):
            yield record


class _Sender:
    """Publishes records at their pace, each once a gateway can receive it."""

    def __init__(self, publisher: Any, endpoint: str, wait_seconds: float, *, now: bool) -> None:
        self._publisher = publisher
        self._endpoint = endpoint
        self._wait_seconds = wait_seconds
        self._now = now
        self._sent: Counter[str] = Counter()
        self._skipped = 0

    def send_all(self, records: Iterable[Record], speed: float) -> None:
        began = time.monotonic()
        first_ns: int | None = None
        for record in records:
            if first_ns is None:
                self._wait_for_gateway()
                began, first_ns = time.monotonic(), record.received_ns
            if record.channel.startswith("$"):
                self._skipped += 1
                continue
            if speed:
                due = began + (record.received_ns - first_ns) / _SECOND_NS / speed
                if (pause := due - time.monotonic()) > _BEHIND_SECONDS:
                    time.sleep(pause)
            self._send(record)

    def summary(self) -> str:
        skipped = f"; {self._skipped:,} personal messages left out" if self._skipped else ""
        return f"published {self._sent.total():,} events on {len(self._sent):,} channels{skipped}"

    def _wait_for_gateway(self) -> None:
        if not self._publisher.wait_for_subscriber(self._wait_seconds):
            raise output.CommandError(f"no gateway at {self._endpoint} subscribed within {self._wait_seconds:g} s")

    def _send(self, record: Record) -> None:
        payload = orjson.Fragment(orjson.dumps(self._payload(record.message)))
        deadline = time.monotonic() + self._wait_seconds
        # A failed attempt uses up a number; the gateway asks for the message again, as all are kept for a while.
        while not self._publisher.publish(record.channel, payload):
            if time.monotonic() >= deadline:
                raise output.CommandError(
                    f"{self._endpoint}: no gateway received anything for {self._wait_seconds:g} s"
                )
            time.sleep(_BEHIND_SECONDS)
        self._sent[record.channel] += 1

    def _payload(self, message: dict[str, Any]) -> Any:
        """Return what a publisher sends for this event: its data alone, if it had no event type."""
        if message.get("event_type") is None and "data_base64" not in message:
            return message.get("data")
        event = {name: value for name, value in message.items() if name not in _SET_BY_THE_GATEWAY}
        if self._now:
            event.pop("timestamp", None)
        return event
