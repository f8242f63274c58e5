"""`gateway check`: validates the configuration and says what the gateway would do."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.options import configured
from gateway.config import Config, example, secrets
from gateway.config.cluster import parse_url
from gateway.config.model import ChannelHistory
from gateway.config.sources import endpoints
from gateway.runtime.listening import shown


FILES_RESERVED = 64 + 256 + 256
"""Open files that the gateway needs besides one per client: its own, for other requests, for publishers."""


def _print_example(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(example(), nl=False)
        context.exit()


@click.command()
@click.option(
    "--example",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print an annotated configuration file with all settings, and exit.",
)
@configured
def check(config: Config) -> None:
    """Validate the configuration, and print what `gateway serve` would do with it.

    The exit status is 2 if the configuration is not valid, else 0. Warnings go to standard error."""
    from gateway.auth import verifier  # here, so that other commands start without it

    verifier(config.auth)  # reads the key that verifies tokens
    if any(source.decoder for source in config.bus.sources):
        from gateway.wiring import load_decoder

        for name in {source.decoder for source in config.bus.sources} - {""}:
            load_decoder(name)
    more = [
        *_bus_key_warnings(config),
        *_certificate_warnings(config),
        *secrets.warnings(config),
        *_cluster_warnings(config),
    ]
    for line in described(config):
        click.echo(line)
    for warning in (*warnings(config), *more):
        click.echo(f"warning: {warning}", err=True)


def described(config: Config) -> Iterator[str]:
    """Yield what the gateway would do, line by line."""
    clients, sessions, end = config.clients, config.sessions, config.shutdown
    s = "s" if config.tls.cert_file else ""
    for host in config.hosts:
        at = shown(host, config.port or "<any free port>")
        yield f"serve       http{s}://{at} and ws{s}://{at}/ws"
    yield f"allow       {_allowed(config)}"
    for address, mode, source in endpoints(config):
        as_read = f", read as {source.preset or 'its source says'}" if source is not None else ""
        yield (
            f"connect to  {address}, where a publisher binds{as_read}"
            if mode == "connect"
            else f"bind        {address}, where publishers connect{as_read}"
        )
    if config.bus.curve_key_file:
        yield f"CURVE       with the key in {config.bus.curve_key_file}"
    yield (f"keep        {_kept(config.history)} per channel, for at most {config.ingest.channels_max} channels")
    most = config.history.bytes_max * (config.ingest.channels_max - len(config.channels))
    most += sum(own.bytes_max for own in config.channels.values())
    yield f"              {most} bytes in all, of which at most {_total(config)}"
    for name, own in sorted(config.channels.items()):
        yield f"              of {name}: {_kept(own)}"
    yield (
        f"clients     at most {clients.connections_max}, each with at most {clients.subscriptions_max} "
        f"subscriptions; pinged every {clients.heartbeat_seconds:g} s"
    )
    if config.workers > 1:
        yield f"workers     {config.workers} processes serve the clients; one more receives the events"
    yield (
        f"sessions    kept for {sessions.ttl_seconds:g} s after a disconnect, at most "
        f"{sessions.disconnected_max}, each with at most {sessions.messages_max} personal messages"
    )
    if config.cluster.url:
        cluster = config.cluster
        yield f"cluster     with the gateways whose keys begin with {cluster.prefix}: at {parse_url(cluster.url)}"
    yield (f"shutdown    within {end.timeout_seconds:g} s; clients reconnect within {end.reconnect_spread_seconds:g} s")
    yield f"log         {config.logging.level} and above, format {config.logging.format}, on standard error"


def _allowed(config: Config) -> str:
    auth = config.auth
    if not auth.required:
        return f"every client, with the role {auth.unauthenticated_role}"
    source = next(name for name in auth.SOURCES if getattr(auth, name))
    return f"clients with a token verified by auth.{source}; others have the role anonymous"


def _total(config: Config) -> str:
    if config.history.total_bytes_max:
        return f"{config.history.total_bytes_max} are kept (history.total_bytes_max)"
    from gateway.runtime.system import memory_bytes

    return f"{memory_bytes() // 4} are kept, a quarter of the memory (history.total_bytes_max)"


def _kept(history: ChannelHistory) -> str:
    age = f", {history.age_seconds_max:g} s" if history.age_seconds_max else ""
    return f"{history.events_max} events, {history.bytes_max} bytes{age}"


def warnings(config: Config) -> Iterator[str]:
    """Yield what would fail on this machine now, or is probably a mistake."""
    from gateway.runtime.system import open_files_max

    for host in config.hosts:
        if problem := _unavailable(host, config.port):
            yield f"port: {problem}"
    for endpoint, mode, _ in endpoints(config):
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        is_bound = mode == "bind" and endpoint.startswith("tcp://") and port.isdigit()
        if is_bound and (problem := _unavailable(host.strip("[]"), int(port))):
            yield f"bind: {problem}"
        path = Path(endpoint.removeprefix("ipc://"))
        if endpoint.startswith("ipc:///") and not path.parent.is_dir():
            yield f"{mode}: there is no folder {path.parent} for {endpoint}"
        elif endpoint.startswith("ipc:///") and mode == "bind" and _is_served(path):
            yield f"bind: {endpoint} is in use by another program"
    files = open_files_max(hard=True)  # `serve` raises its limit to this
    needed = config.clients.connections_max + FILES_RESERVED
    if files is not None and files < needed:
        yield (
            f"clients.connections_max: {config.clients.connections_max} clients need {needed} open files, "
            f"but the limit is {files}; raise the limit (ulimit -Hn) or lower the setting"
        )
    if config.ingest.payload_bytes_max > config.bus.message_bytes_max:
        yield (
            f"ingest.payload_bytes_max: {config.ingest.payload_bytes_max} is above "
            f"bus.message_bytes_max ({config.bus.message_bytes_max}), so such payloads never arrive; raise that, too"
        )


def _bus_key_warnings(config: Config) -> list[str]:
    if not config.bus.curve_key_file:
        return []
    from gateway.bus import keys  # here, so that it works without zmq where no keys are used

    keys.read(config.bus)
    return list(keys.warnings(config.bus))


def _certificate_warnings(config: Config) -> list[str]:
    if not config.tls.cert_file:
        return []
    from gateway.web.sockets import tls

    tls.context(config.tls)
    return list(tls.warnings(config.tls))


def _cluster_warnings(config: Config) -> list[str]:
    if not config.cluster.url:
        return []
    import asyncio

    from gateway import cluster  # here, so that it works without redis where no cluster is configured

    cluster.require()
    from gateway.cluster.engine import probe

    found = asyncio.run(probe(config.cluster))
    return [] if found is None else [f"cluster.url: {found[0]}; {found[1]}"]


def _unavailable(host: str, port: int) -> str:
    """Return why the gateway cannot listen there, empty if it can; wildcards are not checked."""
    if host in {"*", "lo"}:
        return ""
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return f"{shown(host, port)} is in use by another program"
        return f"cannot listen on {shown(host, port)} ({exc.strerror or exc})"
    return ""


def _is_served(path: Path) -> bool:
    """Tell whether a process listens at the path of a Unix socket."""
    try:
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(1)
            visitor.connect(str(path))
    except (OSError, AttributeError):  # Windows has no such sockets in Python
        return False
    return True
