"""`gateway doctor`: finds out why no events arrive, from the publisher's socket to the clients."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from typing import Any, Literal

import click

from gateway.cli import findings
from gateway.cli.findings import Finding, State
from gateway.cli.http_findings import Site, endpoint_finding
from gateway.cli.options import configured
from gateway.config import Config
from gateway.config.model import Source
from gateway.config.sources import Endpoint, endpoints


_COLOURS: dict[State, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}
_PROBLEM_STATUS = 1


@click.command()
@click.argument("endpoint", required=False)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    help="Time to wait for a message, and then to receive.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding.")
@click.option("--url", envvar="GATEWAY_URL", help="Address of the running gateway, if it is not the configured one.")
@click.option("--origin", default="", help="Also check that web pages of this origin may connect.")
@configured
def doctor(config: Config, endpoint: str | None, seconds: float, as_json: bool, url: str | None, origin: str) -> None:
    """Examine the bus and a running gateway, and say what is wrong and what to do.

    ENDPOINT is where a publisher binds, or the gateway's own `bind`; without it, all configured endpoints are
    examined, then the gateway if one runs. It receives as one more subscriber, so it disturbs nothing. The
    exit status is 1 if there is a problem, 2 if the configuration is not valid, else 0."""
    sys.exit(asyncio.run(_run(config, endpoint, seconds, as_json, url or _url(config), origin)))


async def _run(config: Config, endpoint: str | None, seconds: float, as_json: bool, url: str, origin: str) -> int:
    report = _Report(as_json)
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is not a URL; expected http://HOST:PORT", param_hint="--url")
    site = Site(url, token=os.environ.get("GATEWAY_TOKEN", ""), origin=origin)
    known = endpoints(config)
    wanted = [one for one in known if endpoint in {None, one.address}] or [Endpoint(endpoint or "", "connect")]
    for address, mode, source in wanted:
        one, bound = address, mode == "bind"
        report.begin(one, "publishers connect" if bound else "a publisher binds")
        examined = _bound(config, one, site, seconds, source) if bound else _connected(config, one, seconds, source)
        async for finding in examined:
            report.add(finding)
    if not endpoint or any(mode == "bind" for _, mode, _ in wanted):
        report.begin(url, "clients connect")
        try:
            report.add_all(await asyncio.to_thread(lambda: list(site.findings())))
        except OSError as error:
            report.add(Finding("http", "note", f"no gateway runs there ({error})", "start it with `gateway serve`"))
    return report.end()


async def _connected(config: Config, endpoint: str, seconds: float, source: Source | None) -> AsyncIterator[Finding]:
    """Examine an endpoint that the gateway connects to."""
    from gateway.bus import zmtp_probe  # here, so that other commands start without zmq

    began = time.monotonic()
    peer = await zmtp_probe.probe(endpoint)
    if peer.state == "unreachable":
        remedy = "start the publisher, or correct `connect`; if the publisher connects, set `bind` instead"
        yield Finding("reachable", "problem", peer.detail, remedy)
        return
    yield Finding("reachable", "ok", f"connected in {(time.monotonic() - began) * 1000:.0f} ms")
    curve = bool(config.bus.curve_key_file)
    wrong = zmtp_probe.problem(peer, curve=curve)
    if peer.state != "zmtp":
        yield Finding("zeromq", "problem", wrong)
        return
    secured = "CURVE" if peer.mechanism == "CURVE" else f"mechanism {peer.mechanism}"
    yield Finding("zeromq", "ok", f"ZMTP {peer.version}, {secured}")
    if wrong:
        yield Finding("socket" if peer.mechanism == "NULL" and not curve else "curve", "problem", wrong)
        return
    if peer.kind:
        yield Finding("socket", "ok", peer.kind)
    async for finding in _received(config, endpoint, "connect", seconds, source):
        yield finding


async def _bound(
    config: Config, endpoint: str, site: Site, seconds: float, source: Source | None
) -> AsyncIterator[Finding]:
    """Examine the endpoint that publishers connect to: as the gateway, unless one runs already."""
    from gateway.bus import sampling, zmtp_probe

    known = [one for one in await asyncio.to_thread(_bus_of, site) if one["endpoint"] == endpoint]
    for state in known:
        yield endpoint_finding(state)
    if known:
        return
    if "*" not in endpoint and (await zmtp_probe.probe(endpoint, seconds=1.0)).state != "unreachable":
        text = "it is in use, and the gateway that uses it, if it is one, does not say how it is"
        yield Finding("bind", "note", text, "stop it to examine the publishers, or give its --url and GATEWAY_TOKEN")
        return
    try:
        peers = await sampling.identify_visitors(endpoint, seconds=seconds)
    except OSError as error:
        yield Finding("bind", "problem", f"it cannot be bound: {error.strerror or error}", "choose another `bind`")
        return
    if not peers:
        text = f"no publisher connected within {seconds:g} s"
        yield Finding("reachable", "warning", text, "let publishers connect here, or wait longer: --seconds 60")
        return
    curve = bool(config.bus.curve_key_file)
    for text in sorted({zmtp_probe.problem(peer, curve=curve) for peer in peers} - {""}):
        yield Finding("socket", "problem", text)
    if good := [peer for peer in peers if not zmtp_probe.problem(peer, curve=curve)]:
        kinds = ", ".join(sorted({peer.kind or peer.mechanism for peer in good}))
        yield Finding("socket", "ok", f"{kinds} connected")
        async for finding in _received(config, endpoint, "bind", seconds, source):
            yield finding


def _bus_of(site: Site) -> list[dict[str, Any]]:
    """Return the endpoints of the gateway that runs there, if one does and says it."""
    try:
        return site.bus()
    except OSError:
        return []


async def _received(
    config: Config, endpoint: str, mode: Literal["connect", "bind"], seconds: float, source: Source | None
) -> AsyncIterator[Finding]:
    """Receive, and say what came."""
    from gateway.bus import sampling
    from gateway.bus.subscriber import BusError

    try:
        sample = await sampling.sample(config.bus, endpoint, mode, seconds=seconds, source=source)
    except BusError as error:
        yield Finding("handshake", "problem", str(error))
        return
    if not sample.connected:
        text = sample.problem or f"the ZMTP handshake did not end within {seconds:g} s"
        yield Finding("handshake", "problem", text)
        return
    yield Finding("handshake", "ok", "subscribed to all topics")
    if sample.problem:
        yield Finding("handshake", "warning", f"another peer was refused: {sample.problem}")
    if sample.first_seconds is None:
        text = f"no message within {seconds:g} s: the publisher is connected and sends nothing"
        yield Finding("message", "warning", text, "publish something, or wait longer: --seconds 60")
        return
    yield Finding("message", "ok", f"the first one after {sample.first_seconds:.1f} s")
    for finding in findings.examine(
        sample.messages,
        config=config,
        received=sample.received,
        seconds=sample.seconds,
        endpoint=endpoint,
        source=source,
    ):
        yield finding
    async for finding in _replay(config, sample.messages):
        yield finding


async def _replay(config: Config, messages: Iterable[findings.Message]) -> AsyncIterator[Finding]:
    """Ask each publisher that offers replay for its newest message."""
    from gateway.bus.sampling import ask_for_replay
    from gateway.core.ingest.recovery import ReplayRequest

    for beat in findings.heartbeats(messages):
        topics = [(topic, number) for topic, number in beat.sequences.items() if number]
        if not beat.replay or not topics:
            text = f"{beat.name or beat.incarnation} offers none" if not beat.replay else "nothing was published yet"
            yield Finding(
                "replay", "note", text, "" if beat.replay else "what is lost stays lost: Publisher(replay=1000)"
            )
            continue
        topic, newest = topics[0]
        incarnation = int(beat.incarnation, 16)
        wanted = ReplayRequest(1, incarnation, beat.replay, beat.replay_key, topic, newest, newest)
        replies = await ask_for_replay(config.bus, wanted)
        if not replies:
            remedy = "open that port to the gateway; a publisher on another machine needs Publisher(replay_address=…)"
            yield Finding("replay", "problem", f"{beat.replay} does not answer within 2 s", remedy)
        elif len(replies[0]) < 5:
            yield Finding("replay", "warning", f"{beat.replay} answers that it holds no message {newest} of {topic}")
        else:
            yield Finding("replay", "ok", f"{beat.replay} replays")


class _Report:
    """Prints findings as they come."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._place = ""
        self._counts: dict[State, int] = dict.fromkeys(_COLOURS, 0)

    def begin(self, place: str, role: str) -> None:
        self._place = place
        if not self._as_json:
            click.echo(f"{click.style(_printable(place), bold=True)}  where {role}")

    def add(self, finding: Finding) -> None:
        self._counts[finding.state] += 1
        if self._as_json:
            click.echo(json.dumps({"place": self._place, **asdict(finding)}))
            return
        state = click.style(f"{finding.state:<8}", fg=_COLOURS[finding.state])
        click.echo(f"  {state} {finding.check:<11} {_printable(finding.text)}")
        if finding.remedy:
            click.echo(f"  {'':<8} {'':<11} → {_printable(finding.remedy)}")
        if finding.settings:
            click.echo(f"  {'':<8} {'':<11} → or let a source read it as it is; write in the configuration:\n")
            for line in finding.settings.splitlines():
                click.echo(f"      {_printable(line)}")
            click.echo()

    def add_all(self, found: Iterable[Finding]) -> None:
        for finding in found:
            self.add(finding)

    def end(self) -> int:
        """Print the sum; return the exit status."""
        problems, warnings = self._counts["problem"], self._counts["warning"]
        if not self._as_json:
            click.echo(f"{problems} problems, {warnings} warnings")
        return _PROBLEM_STATUS if problems else 0


def _printable(text: str) -> str:
    """Return text without control characters, which peers could send to the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _url(config: Config) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104  # not bound here
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if config.tls.cert_file else ''}://{shown}:{config.port}"
