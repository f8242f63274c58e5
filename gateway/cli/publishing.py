"""Publishing on the bus from a shell: nothing before a gateway listens, nothing that it would reject."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
from neurograph_publisher import Curve, Publisher, PublisherError

from gateway.cli.terminal import Failure, Mistake, say
from gateway.config import Config
from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.streams import Streams
from gateway.core.protocol.events import STANDARD


LINE_BYTES_MAX = Config().bus.message_bytes_max
_TOLD_MAX = 10
_LOOK_SECONDS = 0.01
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.01, 0.5


@dataclass(frozen=True, slots=True)
class Bus:
    """Where the bus is, who binds there, and for how many seconds a gateway is waited for."""

    endpoint: str
    bind: bool
    curve: tuple[Path, Path] | None
    seconds: float


class Form:
    """Makes what somebody typed into a payload, and checks it as a gateway with its defaults does."""

    def __init__(self, channel: str, event_type: str | None, *, text: bool) -> None:
        self.channel = channel
        self.event_type = event_type
        self._text = text
        self._ingest = Ingest(
            payload_bytes_max=Config().ingest.payload_bytes_max,
            rejections_max=1,
            admit=lambda _: True,
            recovery=Recovery(sequences=Streams(streams_max=1), started_ns=0, history=lambda _: 0),
        )

    def read(self, given: bytes) -> orjson.Fragment:
        """Return data to be published.

        Raises:
            ValueError: A gateway would reject it, or it is not what it is said to be.
        """
        data = orjson.Fragment(orjson.dumps(given.decode()) if self._text else given.strip())
        event = data if self.event_type is None else {"event_type": self.event_type, "data": data}
        try:
            self._ingest.read_event(self.channel, orjson.dumps(event), now_ns=0)
        except ValueError as error:
            if not self._text and not _is_json(given):
                raise ValueError(f"it is not JSON ({error}); --text sends it as it is") from None
            standard = STANDARD.get(self.channel)
            if standard is None or self.event_type is not None:
                raise
            kind = standard.event_types
            raise ValueError(f"{error}; events of {self.channel} have --type {kind}") from None
        return data


def _is_json(given: bytes) -> bool:
    try:
        orjson.loads(given)
    except ValueError:
        return False
    return True


class Outlet:
    """A publisher for one channel, which waits for its gateway; counts what it published."""

    def __init__(self, publisher: Publisher, form: Form, bus: Bus) -> None:
        self.count = 0
        self._publisher = publisher
        self._form = form
        self._bus = bus

    def send(self, data: orjson.Fragment) -> None:
        """Publish, as soon as a gateway has subscribed and has room.

        Where it has none, each try takes a number: the gateway names those as a gap, though nothing is
        lost. It takes a gateway that is 100,000 events behind.

        Raises:
            Failure: There was none in time, or it refused.
        """
        deadline = time.monotonic() + self._bus.seconds
        channel, pause = self._form.channel, _RETRY_SECONDS
        while not self._publisher.watched(channel):
            if self._publisher.refused and not self._bus.bind:
                raise Failure(f"the gateway at {self._bus.endpoint} refused the connection: keys?")
            if time.monotonic() >= deadline:
                at, seconds = self._bus.endpoint, self._bus.seconds
                raise Failure(f"no gateway took {channel} at {at} within {seconds:g} s")
            self._publisher.wait_for_subscriber(0)  # takes in who subscribes
            time.sleep(_LOOK_SECONDS)
        while not self._publisher.publish(channel, data, self._form.event_type):
            if time.monotonic() >= deadline:
                raise Failure(
                    f"the gateway at {self._bus.endpoint} took nothing for {self._bus.seconds:g} s"
                )
            time.sleep(pause)
            pause = min(2 * pause, _RETRY_SECONDS_MAX)
        self.count += 1


@contextmanager
def _outlet(form: Form, bus: Bus) -> Iterator[Outlet]:
    """Open a publisher, close it when all is sent, and say how many there were.

    Raises:
        Failure: There is no such publisher, or the gateway did not take all in time.
    """
    try:
        publisher = Publisher(
            connect=() if bus.bind else bus.endpoint,
            bind=bus.endpoint if bus.bind else (),
            name=f"gateway-publish:{os.getpid()}",
            curve=Curve(*bus.curve) if bus.curve else None,
            linger_seconds=bus.seconds,
        )
    except PublisherError as error:
        raise Mistake(str(error)) from None
    outlet = Outlet(publisher, form, bus)
    try:
        yield outlet
    finally:
        began = time.monotonic()
        publisher.close()
        if outlet.count:
            say(f"published {outlet.count:,} event{'s' * (outlet.count != 1)} on {form.channel}")
    if outlet.count and time.monotonic() - began >= bus.seconds > 0:
        raise Failure(f"not all of it was taken at {bus.endpoint} within {bus.seconds:g} s")


def publish_one(form: Form, data: str, bus: Bus) -> None:
    """Publish what stands on the command line.

    Raises:
        Failure: It is not such an event, or no gateway took it.
    """
    try:
        event = form.read(data.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise Mistake(f"DATA: {error}") from None
    with _outlet(form, bus) as outlet:
        outlet.send(event)


def publish_lines(form: Form, bus: Bus) -> None:
    """Publish each line of standard input, as it comes; what is wrong is told and counted.

    Raises:
        Failure: A line was refused, or no gateway took them.
    """
    if sys.stdin.isatty():
        say("reading a line for each event; Ctrl-D ends")
    refused = 0
    with _outlet(form, bus) as outlet:
        for number, line in enumerate(_lines(sys.stdin.buffer), 1):
            if not line.strip():
                continue
            try:
                outlet.send(form.read(line))
            except ValueError as error:
                refused += 1
                if refused <= _TOLD_MAX:
                    say(f"line {number}: {error}")
    if refused:
        raise Failure(f"refused {refused:,} line{'s' * (refused != 1)}")


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Read lines without their ends; what is too long is cut there, which is still too long for an event."""
    while line := source.readline(LINE_BYTES_MAX + 1):
        rest = line
        while len(rest) > LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = source.readline(LINE_BYTES_MAX + 1)
        yield line.removesuffix(b"\n").removesuffix(b"\r")
