"""A systemd of its own, with processes, mounts, cgroups and a network that nobody else sees: for the unit as it is.

It needs root, and the kernel's namespaces; it runs beside an init of any kind. ``python -m tests.support.systemd`` says
why none can run on this machine, and fails then."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import DEADLINE_SECONDS, PAUSE_SECONDS_MAX, scaled


ROOT = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
BIN = Path(sys.executable).parent
LIBRARY = Path("/lib/systemd")

SEEN = " ".join({str(path) for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix)) if path != Path("/usr")})
"""What the gateway of the tests consists of; a service could not see all of it, as it is below /root or /tmp."""
OWN = f"""[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={SEEN}
StandardOutput=append:LOG
StandardError=append:LOG
WatchdogSec=10
"""
"""What these tests add to the unit."""
BOOT = """set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd /run/etc
cp -a /etc/. /run/etc
mkdir -p /run/etc/neurograph-gateway
cp "$3/gateway.toml" /run/etc/neurograph-gateway
mount --bind /run/etc /etc
for each in /var/lib/prometheus /var/log/nginx; do
    [ ! -d $each ] || mount -t tmpfs -o mode=777 tmpfs $each
done
ip link set lo up
if [ "$2" = v2 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
export container=lxc SYSTEMD_UNIT_PATH="$1"
exec /lib/systemd/systemd --system --unit=basic.target --log-target=console </dev/null
"""


def missing() -> str:
    """Return why no systemd can run here, "" if it can."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in ("unshare", "nsenter", "ip", "systemctl") if shutil.which(name) is None]
    return f"needs {', '.join(absent)}" if absent else ""


class Manager:
    """A running systemd."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder

    def run(self, *command: str | Path) -> str:
        """Run a command where the services run; return what it prints. Fails if the command fails."""
        inside = ["nsenter", "--target", str(self._pid), *("--pid", "--mount", "--cgroup", "--ipc", "--net"), "--"]
        done = subprocess.run(
            [*inside, *command], capture_output=True, text=True, timeout=scaled(DEADLINE_SECONDS), check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def shell(self, script: str) -> str:
        """Run what a document has for a shell, in the checkout."""
        return self.run("sh", "-ec", f"cd {ROOT}\n{_with_our_programs(script)}")

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def edit(self, unit: str, text: str) -> None:
        """Add settings to a unit, as `systemctl edit` does."""
        (self._folder / f"{unit}.d" / "edit.conf").write_text(_with_our_programs(text))
        self.run("systemctl", "daemon-reload")

    def cgroups(self) -> list[Path]:
        """Those below which its own are."""
        return [tree / self._folder.name for tree in _trees()]

    def log(self) -> str:
        """What the service wrote."""
        log = self._folder / "log"
        return log.read_text() if log.exists() else ""


def _with_our_programs(text: str) -> str:
    return text.replace("/opt/neurograph-gateway/bin", str(BIN))


@contextmanager
def manager(units: Path, configuration: str, *, others: Sequence[str] = ()) -> Iterator[Manager]:
    """Run systemd with the project's units from a folder; their programs are those of the tests' environment.

    `others` are services of this machine that it may start, too."""
    with tempfile.TemporaryDirectory(prefix="ng-systemd-") as name:
        folder = Path(name)
        (folder / "gateway.toml").write_text(configuration)
        for target in ("basic", "sysinit", "sockets", "timers", "paths", "slices", "network", "network-online"):
            shutil.copy(LIBRARY / "system" / f"{target}.target", folder)
        for service in others:
            shutil.copy(LIBRARY / "system" / f"{service}.service", folder)
        for unit in units.iterdir():
            (folder / unit.name).write_text(_with_our_programs(unit.read_text()))
            if unit.suffix == ".service":
                drop_in = folder / f"{unit.name}.d"
                drop_in.mkdir()
                (drop_in / "test.conf").write_text(OWN.replace("LOG", str(folder / "log")))
        with _cgroup(folder.name) as version:
            namespaces = ["--pid", "--mount", "--cgroup", "--ipc", "--uts", "--net"]
            process = subprocess.Popen(
                ["unshare", *namespaces, "--fork", "--kill-child", "sh", "-c", BOOT, "boot", folder, version, folder],
                preexec_fn=lambda: _enter(folder.name),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                yield _started(process, folder)
            finally:
                process.kill()  # and, by --kill-child, all that runs inside
                process.wait()


def _started(process: subprocess.Popen[bytes], folder: Path) -> Manager:
    """Wait until it has reached its target."""
    until = time.monotonic() + scaled(DEADLINE_SECONDS)
    while time.monotonic() < until and process.poll() is None:
        for inside in psutil.Process(process.pid).children():
            found = Manager(inside.pid, folder)
            with contextlib.suppress(AssertionError):
                found.run("systemctl", "is-active", "--quiet", "basic.target")
                return found
        time.sleep(PAUSE_SECONDS_MAX)
    pytest.skip(f"no second systemd runs on this machine (exit status {process.poll()})")


def _trees() -> list[Path]:
    unified = (CGROUPS / "cgroup.controllers").exists()
    return [CGROUPS] if unified else [CGROUPS / "systemd"]


def _enter(name: str) -> None:
    for tree in _trees():
        (tree / name / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def _cgroup(name: str) -> Iterator[str]:
    """Make a cgroup, below which systemd makes its own; yield the version of cgroups."""
    try:
        for tree in _trees():
            (tree / name).mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup for a second systemd can be made on this machine ({error})")
    try:
        yield "v2" if CGROUPS in _trees() else "v1"
    finally:
        for tree in _trees():
            _remove(tree / name)


def _remove(group: Path) -> None:
    """Remove a cgroup and those below it, as the processes that were killed leave them."""
    until = time.monotonic() + scaled(DEADLINE_SECONDS)
    while group.exists():
        for path in (*sorted(group.rglob("*/"), reverse=True), group):
            with contextlib.suppress(OSError):
                path.rmdir()
        assert time.monotonic() < until, f"{group} still has processes"
        time.sleep(PAUSE_SECONDS_MAX)


def main() -> int:
    try:
        if reason := missing():
            pytest.skip(f"a systemd of its own {reason}")
        with manager(ROOT / "ops" / "systemd", ""):
            return 0
    except pytest.skip.Exception as skipped:
        print(skipped)
        return 1


if __name__ == "__main__":
    sys.exit(main())
