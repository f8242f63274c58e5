"""The process of a gateway: its signals, its control socket, its exit status."""

import asyncio
import signal
from collections.abc import Callable, Iterator

from gateway import __version__
from gateway.bus.subscriber import BusError
from gateway.config import secrets
from gateway.config.changes import Changes
from gateway.config.checks import is_loopback
from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.process import handover
from gateway.process.control import ControlSocket
from gateway.process.service import Service, running
from gateway.runtime.logs import logger
from gateway.runtime.system import allow_many_files, loop_factory, notify_systemd, tune_garbage_collector


log = logger("gateway")


def run(config: Config, reread: Callable[[], Config]) -> int:
    """Run a gateway until a signal ends it; return the process's exit status. `reread` reads its settings again."""
    allow_many_files()
    tune_garbage_collector()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config, reread))


async def _serve(config: Config, reread: Callable[[], Config]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        inherited = handover.inherit()
        async with running(config, inherited) as service:
            service.on_outdated(stop.set)
            process = _Process(service, reread, stop)
            await process.start(succeeds=inherited.predecessor is not None)
            try:
                await stop.wait()
            finally:
                process.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                # A second signal ends at once, by the signal itself.
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            log.info("draining", clients=len(service.hub.sessions))
            if process.successor:
                service.leave_port()
            else:
                notify_systemd(STOPPING=1)
            limit = service.config.shutdown.timeout_seconds
            try:
                async with asyncio.timeout(limit):
                    await service.drain()
            except TimeoutError:
                log.warning("drain_timed_out", seconds=limit)
    except (BusError, OSError) as error:
        log.error("cannot_start", reason=str(error))  # expected: no traceback
        return 1
    log.info("stopped")
    return 1 if service.outdated else 0


class _Process:
    """What a running gateway is asked for from outside, besides to stop."""

    def __init__(self, service: Service, reread: Callable[[], Config], stop: asyncio.Event) -> None:
        self.successor = 0
        """The pid of the process that succeeds this one."""
        self._stop = stop
        self._upgrading = False
        self._service = service
        self._reread = reread
        actions = {"reload": self._reload_on_request, "upgrade": self._upgrade}
        self._control = ControlSocket(service.config.control_file, actions)

    async def start(self, *, succeeds: bool) -> None:
        """Say that it listens, and obey signals and commands. Raises OSError: the control socket cannot be opened."""
        service, config = self._service, self._service.config
        if config.control_file:
            await self._control.open(takes_over=succeeds)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        url, *also = service.urls
        log.info("listening", url=url, **({"also": also} if also else {}), version=__version__)
        notify_systemd(READY=1, STATUS=f"listening at {' and '.join(service.urls)}")
        exposed = [host for host in config.hosts if not is_loopback(host)]
        if exposed and not config.auth.required:
            log.warning("authentication_disabled", host=",".join(exposed), role=config.auth.unauthenticated_role)
        _warn_of_secrets(config)
        for subscriber in service.bus():
            log.info("bus_endpoint_changed", change="opened", endpoint=subscriber.endpoint, mode=subscriber.mode)

    def close(self) -> None:
        self._control.close()

    def reload(self) -> tuple[bool, str]:
        """Use the configuration as it is now, or as a whole the old one; return whether it is used, and what to say."""
        try:
            found = self._service.reload(self._reread())
        except (ConfigError, BusError) as error:
            log.error("reload_refused", reason=str(error))
            return False, f"The configuration is not valid, and nothing has changed:\n{error}"
        log.info("reloaded", changed=list(found.live), restart=list(found.restart))
        _warn_of_secrets(self._service.config)
        return True, "\n".join(_sentences(found))

    async def _reload_on_request(self) -> tuple[bool, str]:
        return self.reload()

    async def _upgrade(self) -> tuple[bool, str]:
        """Start a process that succeeds this one; if it does not become ready, go on."""
        if self._upgrading:
            return False, "Another upgrade is under way."
        self._upgrading = True
        released = False

        def release_bus() -> list[int]:
            nonlocal released
            released = True
            return self._service.release_bus()

        try:
            self.successor = await handover.upgrade(self._service.listening, release_bus)
        except OSError as error:
            self._upgrading = False
            if released:
                self._service.resume_bus()
            log.error("upgrade_failed", reason=str(error))
            return False, f"Not upgraded, and this process goes on: {error}"
        log.info("upgraded", pid=self.successor)
        notify_systemd(MAINPID=self.successor)
        self._stop.set()
        clients = len(self._service.hub.sessions)
        return True, f"Process {self.successor} serves now; the old one asks its {clients} clients to connect again."


def _warn_of_secrets(config: Config) -> None:
    for warning in secrets.warnings(config):
        log.warning("secret_exposed", reason=warning)


def _sentences(found: Changes) -> Iterator[str]:
    if found.live:
        yield "Changed: " + ", ".join(found.live)
    if found.restart:
        yield "Needs a restart, and is as before: " + ", ".join(found.restart)
    if not (found.live or found.restart):
        yield "No setting changed. Keys and certificates were read again."
