"""`gateway doctor`: finds out why no events arrive, from the publisher's socket to the clients."""

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict

import click

from gateway.bus.resolver import Resolver
from gateway.cli import cluster_findings
from gateway.cli.bus_findings import Examination
from gateway.cli.findings import Finding, State
from gateway.cli.http_findings import Site
from gateway.cli.options import configured
from gateway.config import Config
from gateway.config.checks import same_endpoint
from gateway.config.cluster import parse_url
from gateway.config.sources import Endpoint, endpoints
from gateway.runtime import listening


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
@click.option("--take", is_flag=True, help="Also receive from PUSH sockets; the gateway will lack what is received.")
@click.option("--origin", default="", help="Also check that web pages of this origin may connect.")
@configured
def doctor(
    config: Config, endpoint: str | None, seconds: float, as_json: bool, url: str | None, take: bool, origin: str
) -> None:
    """Examine the bus, a running gateway and its cluster, and say what is wrong and what to do.

    ENDPOINT is where a publisher binds, or the gateway's own `bind`; without it, all configured endpoints are
    examined, then the gateway if one runs, and the cluster if one is configured. It receives as one more subscriber, so it disturbs nothing; from
    PUSH sockets, which send each message to one receiver, it receives with --take only. The exit status is 1 if
    there is a problem, 2 if the configuration is not valid, else 0."""
    url = url or _url(config)
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is not a URL; expected http://HOST:PORT", param_hint="--url")
    site = Site(url, token=os.environ.get("GATEWAY_TOKEN", ""), origin=origin)
    report = _Report(as_json)
    sys.exit(asyncio.run(_run(Examination(config, site, seconds, take, report.add), endpoint, report)))


async def _run(examination: Examination, address: str | None, report: "_Report") -> int:
    site = examination.site
    wanted = [
        one
        for one in endpoints(examination.config)
        if address is None or same_endpoint(one.address) == same_endpoint(address)
    ] or [Endpoint(address or "", "connect")]
    for one in wanted:
        if one.host:
            await _examine_name(examination, one, report)
        else:
            await _examine(examination, one, report)
    if not address or any(one.mode == "bind" for one in wanted):
        report.begin(site.url, "clients connect")
        try:
            report.add_all(await asyncio.to_thread(lambda: list(site.findings())))
        except OSError as error:
            report.add(Finding("http", "note", f"no gateway runs there ({error})", "start it with `gateway serve`"))
    if not address and examination.config.cluster.url:
        report.begin(str(parse_url(examination.config.cluster.url)), "the gateways of a cluster meet")
        await cluster_findings.examine(examination.config.cluster, report.add)
    return report.end()


async def _examine(examination: Examination, one: Endpoint, report: "_Report") -> None:
    report.begin(one.address, "publishers connect" if one.mode == "bind" else "a publisher binds")
    await examination.examine(one)


async def _examine_name(examination: Examination, one: Endpoint, report: "_Report") -> None:
    """Look up a name, and examine each of its addresses."""
    report.begin(one.address, "one publisher or several bind")
    try:
        addresses = await Resolver()(one.host)
    except OSError as error:
        report.add(Finding("name", "problem", f"{one.host} cannot be resolved: {error}", "look at the DNS server"))
        return
    if not addresses:
        remedy = "correct the name, or start a publisher; a headless Service lists only Pods that are ready"
        report.add(Finding("name", "problem", f"{one.host} has no addresses", remedy))
    else:
        report.add(Finding("name", "ok", f"{one.host} is {', '.join(addresses)}"))
    for address in addresses:
        await _examine(examination, one.at(address), report)


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
    host = config.hosts[0]
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not bound here
    return listening.url("https" if config.tls.cert_file else "http", reached, config.port)
