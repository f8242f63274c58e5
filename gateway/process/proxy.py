"""The process of `gateway proxy`: its publishers' names, its HTTP side, its signals."""

import asyncio
import signal
from collections.abc import Iterator, Mapping

from gateway import __version__
from gateway.bus.names import Name
from gateway.bus.proxy import HEARTBEAT_SECONDS, BusProxy
from gateway.bus.resolver import Resolver
from gateway.bus.subscriber import BusError
from gateway.config.errors import ConfigError, Problem
from gateway.config.model import Config
from gateway.config.sources import Endpoint
from gateway.metrics.table import PREFIX, PROXY
from gateway.runtime import clock
from gateway.runtime.listening import listen, url
from gateway.runtime.logs import logger
from gateway.runtime.system import allow_many_files, loop_factory, notify_systemd
from gateway.runtime.tasks import Tasks, run_every
from gateway.web import proxy_site


log = logger("gateway.proxy")


def check(config: Config) -> None:
    """Raise ConfigError if a proxy cannot use these settings."""
    problems = []
    if config.bus.sources:
        remedy = "connect gateways to those publishers directly, or remove [[bus.sources]]"
        problems.append(Problem("bus.sources", "a proxy passes on messages as they are", remedy, ""))
    if not (config.connect or config.bind):
        problems.append(Problem("connect", "there are no publishers to take events from", "set connect or bind", ""))
    if config.bus.curve_key_file and not config.bus.curve_client_keys_dir:
        remedy = "name a folder with the public keys of the gateways"
        problems.append(Problem("bus.curve_client_keys_dir", "is required: gateways connect to a proxy", remedy, ""))
    if problems:
        raise ConfigError(problems)


def run(config: Config) -> int:
    """Run a proxy until SIGTERM or SIGINT; return the process's exit status."""
    check(config)
    allow_many_files()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config))


async def _serve(config: Config) -> int:
    stop, failures, loop = asyncio.Event(), list[str](), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def fail(reason: str) -> None:
        failures.append(reason)
        stop.set()

    try:
        proxy = BusProxy(config, now_ns=clock.now_ns, on_failure=fail)
    except BusError as error:
        log.error("cannot_start", reason=str(error))
        return 1
    tasks = Tasks()
    try:
        sockets = await listen(config.hosts, config.port)
    except OSError as error:
        log.error("cannot_start", reason=f"host, port: cannot listen on {error.filename} ({error.strerror})")
        proxy.close()
        return 1
    site = await proxy_site.serve(sockets, metrics=lambda: page(figures(proxy)))
    try:
        for address in config.connect:
            _follow(proxy, Endpoint(address, "connect"), config, tasks)
        tasks.start(run_every(HEARTBEAT_SECONDS, proxy.tick, on_late=lambda _: None))
        first, *also = [url("http", *one.getsockname()[:2]) for one in sockets]
        more = {"also": also} if also else {}
        log.info("listening", url=first, **more, publish=proxy.publish, replay=proxy.replay, version=__version__)
        notify_systemd(READY=1)
        await stop.wait()
    finally:
        notify_systemd(STOPPING=1)
        tasks.cancel()
        await site.cleanup()
        proxy.close()
    if failures:
        log.error("proxy_failed", reason=failures[0])
        return 1
    log.info("stopped")
    return 0


def _follow(proxy: BusProxy, endpoint: Endpoint, config: Config, tasks: Tasks) -> None:
    """Connect to an endpoint, or to all addresses of its name."""
    if not endpoint.host:
        proxy.connect(endpoint.address)
        return
    opened: list[str] = []

    def open_link(at: Endpoint) -> int:
        proxy.connect(at.address)
        opened.append(at.address)
        return len(opened) - 1

    name = Name(
        endpoint,
        resolve=Resolver(),
        open_link=open_link,
        close_link=lambda number: proxy.disconnect(opened[number]),
        is_silent=lambda number: not proxy.is_connected(opened[number]),
    )

    async def follow() -> None:
        while True:
            await name.look_up(now=asyncio.get_running_loop().time())
            name.leave_silent()
            await asyncio.sleep(config.bus.resolve_seconds)

    tasks.start(follow())


def figures(proxy: BusProxy) -> Mapping[str, float]:
    """Return the values of the metrics of `PROXY`."""
    traffic, forwarding = proxy.traffic, proxy.forwarding
    known = forwarding.publishers.known
    return {
        "proxy_frames_received_total": traffic.frames_received,
        "proxy_bytes_received_total": traffic.bytes_received,
        "proxy_frames_sent_total": traffic.frames_sent,
        "proxy_bytes_sent_total": traffic.bytes_sent,
        "proxy_publishers": proxy.publishers,
        "proxy_gateways": proxy.gateways,
        "proxy_publishers_live": sum(not one.stale for one in known),
        "proxy_handshakes_failed_total": proxy.refused,
        "proxy_replay_requests_total": forwarding.requests,
        "proxy_replay_unanswered_total": forwarding.unanswered,
    }


def page(values: Mapping[str, float]) -> str:
    """Return metrics in Prometheus' text format."""

    def lines() -> Iterator[str]:
        for name, text in PROXY.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            yield from (
                f"# HELP {PREFIX}{name} {text}",
                f"# TYPE {PREFIX}{name} {kind}",
                f"{PREFIX}{name} {values[name]}",
            )

    return "\n".join(lines()) + "\n"
