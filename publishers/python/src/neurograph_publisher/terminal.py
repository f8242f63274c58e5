"""The command `gateway publish`, which exists if this package and the gateway are installed.

It needs the extra `neurograph-publisher[terminal]`. As a subcommand of `gateway` it always has the
gateway's package, and checks events with the gateway's own code. Nothing else here needs that package.
"""

import codecs
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import orjson
from click.core import ParameterSource

from neurograph_publisher.checks import PublisherError, check_topic
from neurograph_publisher.curve import Curve
from neurograph_publisher.events import event
from neurograph_publisher.lines import Encode, Payloads, followed, lines
from neurograph_publisher.publisher import Publisher


_INTERRUPTED = 130
_LOOK_SECONDS = 0.01
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.01, 0.5
_ONLY_BUS, _ONLY_URL = ("bus", "bind", "curve"), ("token", "token_file", "mandatory")


def _complete_channel(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete channels as `gateway tail` does, if the client's package is installed."""
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
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Publish each line of this file."
)
@click.option("--follow", is_flag=True, help="At the end of --file, wait for further lines, until Ctrl-C.")
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
@click.option("--url", metavar="URL", help="Publish over the gateway at this address, as its clients do.")
@click.option("--token", envvar="GATEWAY_TOKEN", show_envvar=True, help="With --url: a bearer token.")
@click.option("--token-file", type=click.Path(path_type=Path), help="With --url: a file with the token.")
@click.option("--mandatory", is_flag=True, help="With --url: publish only what somebody gets.")
@click.pass_context
def publish(
    context: click.Context,
    channel: str,
    data: str,
    event_type: str | None,
    text: bool,
    file: Path | None,
    follow: bool,
    bus: str,
    bind: str | None,
    curve: tuple[Path, Path] | None,
    wait_seconds: float,
    url: str | None,
    token: str | None,
    token_file: Path | None,
    mandatory: bool,
) -> None:
    """Publish DATA, a JSON document, on the bus. If DATA is missing or -, publish each line of input.

    It waits until a gateway has subscribed, so that no event is lost, and sends only what a gateway with
    default settings accepts. Empty lines are skipped. The last line on standard error is the number of
    events published.

    With --url, it publishes over a gateway's WebSocket instead, with a token's permissions. Each event is
    published once, also if the connection is lost meanwhile. If the gateway restarts before its answer, nobody
    knows whether the event was published: that is an error, which names the line. What the gateway's limit
    refuses for a moment (`clients.publishes_per_second`) is published a moment later.

    The exit status is 0; 1 if there is no gateway or a line is not valid; 2 if CHANNEL or DATA on the
    command line is not valid; 130 after Ctrl-C.

    \b
    gateway publish robots.r2 '{"x": 1.5}'
    gateway publish logs '{"level": "info", "message": "hello"}' --type log.info
    ping -i 5 localhost | gateway publish --text pings
    gateway publish --text syslog --file /var/log/syslog --follow --url https://gateway.example.org
    """
    _check_options(context)
    try:
        check_topic(channel)
        encode = _encoder(channel, event_type, text=text, check=url is None)
        payloads = _payloads(data, file, encode, follow=follow)
        if url is not None:
            _publish_over(url, token_file or token or None, channel, payloads, wait_seconds, mandatory=mandatory)
            return
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


def _check_options(context: click.Context) -> None:
    """Refuse options that have no meaning together."""

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def option(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    needs, without = (_ONLY_BUS, "--url is given") if given("url") else (_ONLY_URL, "there is no --url")
    for name in filter(given, needs):
        raise click.UsageError(f"{option(name)} has no meaning if {without}")
    if given("token") and given("token_file"):
        raise click.UsageError("give --token or --token-file, not both")
    if given("file") and context.params["data"] != "-":
        raise click.UsageError("give DATA or --file, not both")
    if given("follow") and not given("file"):
        raise click.UsageError("--follow needs --file; lines of standard input are published as they come")


def _publish_over(
    url: str, token: str | Path | None, channel: str, payloads: Payloads, wait_seconds: float, *, mandatory: bool
) -> None:
    try:
        from neurograph_client.terminal.publish import publish_over
    except ImportError:
        message = "--url needs the client's package: pip install neurograph-client[terminal]"
        raise click.ClickException(message) from None
    publish_over(url, token, channel, payloads, wait_seconds=wait_seconds, mandatory=mandatory)


def _encoder(channel: str, event_type: str | None, *, text: bool, check: bool) -> Encode:
    """Return a function that encodes input as a message's payload.

    It raises ValueError if the input is not JSON, or with `check` if a gateway with default settings rejects the event.
    """

    accept: Callable[[str, bytes], object] = _accept_json
    if check:
        from gateway.cli.event_check import EventCheck  # here: only this needs the gateway

        accept = EventCheck().check

    def encode(given: bytes) -> bytes:
        given = given.removeprefix(codecs.BOM_UTF8)  # at the start of a file that an editor on Windows wrote
        document = payload = orjson.dumps(given.decode()) if text else given.strip()
        if event_type is not None:
            payload = orjson.dumps(event(event_type, orjson.Fragment(document)))
        try:
            accept(channel, payload)
        except ValueError as error:
            if _is_json(document):
                raise
            raise ValueError(f"not JSON ({error}); --text sends it as a string") from None
        return payload

    return encode


def _accept_json(_: str, payload: bytes) -> object:
    """Raises ValueError: it is not JSON."""
    return orjson.loads(payload)


def _is_json(document: bytes) -> bool:
    try:
        orjson.loads(document)
    except ValueError:
        return False
    return True


class _Argument(Payloads):
    """DATA on the command line, in place of lines."""

    place = "DATA"
    skips_empty = False

    def refuse(self, why: str) -> None:
        raise click.BadParameter(why, param_hint=self.place)


def _payloads(data: str, file: Path | None, encode: Encode, *, follow: bool) -> Payloads:
    if data != "-":
        return _Argument(iter([data.encode("utf-8", "surrogateescape")]), encode)
    if file is not None:
        return Payloads(followed(file) if follow else lines(file.open("rb")), encode)
    if sys.stdin.isatty():
        click.echo("reading an event from each line; Ctrl-D ends", err=True)
    return Payloads(lines(sys.stdin.buffer), encode)


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
