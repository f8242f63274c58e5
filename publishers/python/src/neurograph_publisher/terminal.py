"""The command `publish`, which `gateway` has if this package is installed beside it.

It needs the extra `neurograph-publisher[terminal]`. As a subcommand of `gateway` it always has the
gateway's package, and checks events with the gateway's own code. Nothing else here needs that package.
"""

import codecs
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import orjson

from neurograph_publisher.checks import PublisherError, check_topic
from neurograph_publisher.curve import Curve
from neurograph_publisher.events import event
from neurograph_publisher.publisher import Publisher


_INTERRUPTED = 130
_LINE_BYTES_MAX = 32 * 1024 * 1024
_REPORTED_LINES_MAX = 10
_LOOK_SECONDS = 0.01
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.01, 0.5

Encode = Callable[[bytes], bytes]


def _complete_channel(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete channels as `gateway tail` does, if the client's package is there."""
    try:
        from neurograph_client.terminal import complete_channel
    except ImportError:
        return []
    return complete_channel(context, parameter, incomplete)


@click.command()
@click.argument("channel", shell_complete=_complete_channel)
@click.argument("data", default="-")
@click.option("--type", "event_type", metavar="TYPE", help="The event's type. DATA is its data.")
@click.option("--text", is_flag=True, help="DATA is text, not JSON. It is sent as a JSON string.")
@click.option(
    "--bus",
    envvar="GATEWAY_BUS",
    default="tcp://127.0.0.1:5556",
    show_default=True,
    show_envvar=True,
    help="The endpoint that the gateway binds.",
)
@click.option("--bind", help="Bind this endpoint instead, for gateways that connect.")
@click.option(
    "--curve",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="KEY_FILE GATEWAYS",
    help="Encrypt: this side's .key_secret, and the gateway's .key (with --bind, a folder of them).",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0, max=3600),
    default=10.0,
    show_default=True,
    help="Wait at most so many seconds for a gateway to subscribe, and to receive each event.",
)
def publish(
    channel: str,
    data: str,
    event_type: str | None,
    text: bool,
    bus: str,
    bind: str | None,
    curve: tuple[Path, Path] | None,
    wait_seconds: float,
) -> None:
    """Publish DATA, a JSON document, on the bus. If DATA is missing or -, publish each line of input.

    It waits until a gateway has subscribed, so that no event is lost, and sends only what a gateway with
    default settings accepts. Empty lines are skipped. The last line on standard error is the number of
    events published.

    The exit status is 0; 1 if there is no gateway or a line is not valid; 2 if CHANNEL or DATA on the
    command line is not valid; 130 after Ctrl-C.

    \b
    gateway publish robots.r2 '{"x": 1.5}'
    gateway publish logs '{"level": "info", "message": "hello"}' --type log.info
    ping -i 5 localhost | gateway publish --text pings
    """
    try:
        check_topic(channel)
        encode = _encoder(channel, event_type, text=text)
        payloads = _encoded_lines(sys.stdin.buffer, encode)
        if data != "-":
            payloads = iter([_encoded_argument(data, encode)])
        publisher = Publisher(
            connect=() if bind else bus,
            bind=bind or (),
            name=f"gateway-publish:{os.getpid()}",
            curve=Curve(*curve) if curve else None,
            linger_seconds=wait_seconds,
        )
        _Sender(publisher, channel, bind or bus, bool(bind), wait_seconds).send_all(payloads)
    except PublisherError as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


def _encoder(channel: str, event_type: str | None, *, text: bool) -> Encode:
    """Return what makes a message's payload of some input.

    It raises ValueError if the input is not JSON, or if a gateway with default settings rejects the event.
    """
    from gateway.cli.event_check import EventCheck  # here: only this command needs the gateway

    check = EventCheck().check

    def encode(given: bytes) -> bytes:
        given = given.removeprefix(codecs.BOM_UTF8)  # at the start of a file that an editor on Windows wrote
        document = payload = orjson.dumps(given.decode()) if text else given.strip()
        if event_type is not None:
            payload = orjson.dumps(event(event_type, orjson.Fragment(document)))
        try:
            check(channel, payload)
        except ValueError as error:
            if _is_json(document):
                raise
            raise ValueError(f"not JSON ({error}); --text sends it as a string") from None
        return payload

    return encode


def _is_json(document: bytes) -> bool:
    try:
        orjson.loads(document)
    except ValueError:
        return False
    return True


def _encoded_argument(data: str, encode: Encode) -> bytes:
    try:
        return encode(data.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="DATA") from None


def _encoded_lines(source: BinaryIO, encode: Encode) -> Iterator[bytes]:
    """Encode each line as it comes. Lines that are not valid are reported, and are an error at the end."""
    if source.isatty():
        click.echo("reading an event from each line; Ctrl-D ends", err=True)
    refused = 0
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        try:
            payload = encode(line)
        except ValueError as error:
            refused += 1
            if refused <= _REPORTED_LINES_MAX:
                click.echo(f"line {number}: {error}", err=True)
        else:
            yield payload
    if refused:
        raise click.ClickException(f"{_count(refused, 'line')} not valid")


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Read lines without their ends. A longer line is cut, and is still too long for an event."""
    while line := source.readline(_LINE_BYTES_MAX + 1):
        rest = line
        while len(rest) > _LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = source.readline(_LINE_BYTES_MAX + 1)
        yield line.removesuffix(b"\n").removesuffix(b"\r")


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends payloads on a channel, each once a gateway can receive it."""

    publisher: Publisher
    channel: str
    endpoint: str
    bind: bool
    wait_seconds: float

    def send_all(self, payloads: Iterable[bytes]) -> None:
        """Send, close the publisher, and print how many events were published."""
        try:
            for payload in payloads:
                self._send(payload)
        finally:
            began = time.monotonic()
            self.publisher.close()
            published = self.publisher.published
            if published:
                click.echo(f"published {_count(published, 'event')} on {self.channel}", err=True)
        if published and time.monotonic() - began >= self.wait_seconds > 0:
            raise self._failure("did not receive all events within")

    def _send(self, payload: bytes) -> None:
        deadline = time.monotonic() + self.wait_seconds
        publisher = self.publisher
        while not publisher.watched(self.channel):
            if publisher.refused and not self.bind:
                raise click.ClickException(
                    f"the gateway at {self.endpoint} refused the connection; check the keys (--curve)"
                )
            if time.monotonic() >= deadline:
                raise click.ClickException(
                    f"no gateway at {self.endpoint} subscribed to {self.channel} within {self.wait_seconds:g} s"
                )
            publisher.wait_for_subscriber(0)  # reads new subscriptions
            time.sleep(_LOOK_SECONDS)
        # Each failed attempt uses up a number, and the gateway reports a gap although nothing is
        # lost. That takes a gateway that is 100,000 events behind.
        pause = _RETRY_SECONDS
        while not publisher.publish(self.channel, orjson.Fragment(payload)):
            if time.monotonic() >= deadline:
                raise self._failure("received nothing for")
            time.sleep(pause)
            pause = min(2 * pause, _RETRY_SECONDS_MAX)

    def _failure(self, what: str) -> click.ClickException:
        return click.ClickException(f"the gateway at {self.endpoint} {what} {self.wait_seconds:g} s")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
