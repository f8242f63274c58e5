"""What other systems lack: the package can be imported, and its commands that need no server work."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from gateway.runtime.system import allow_many_files
from tests.support.forkserver import search_path


WINDOWS = """
import importlib, os, pkgutil, select, signal, socket, sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "uvloop", "termios", "pwd", "grp", "pty", "tty", "syslog"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# These look at the real platform.
import aiohttp, asyncio, click, cryptography, msgspec, multiprocessing, orjson, psutil, subprocess, tempfile, zmq
import aiohttp.web, click.shell_completion, importlib.metadata, structlog, zmq.asyncio, zmq.auth
for name in ("fcntl", "resource", "uvloop", "termios", "pwd", "grp", "pty", "tty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Lacking())
sys.platform = "win32"
for module, names in {
    os: ("fork", "sched_setscheduler", "sched_getscheduler", "SCHED_BATCH", "SCHED_OTHER", "register_at_fork", "setpgid"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGPIPE", "SIGCHLD"),
    select: ("poll", "epoll"),
    socket: ("SCM_RIGHTS", "CMSG_LEN", "send_fds", "recv_fds"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for package in ("gateway", "neurograph_client", "neurograph_publisher"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        # The notebooks' part needs packages that come with its extra only.
        if not module.name.endswith("__main__") and not module.name.startswith("neurograph_client.notebook"):
            importlib.import_module(module.name)
from gateway.cli import main
for arguments in (["version"], ["check", "--set", "port=0", "--bind", ""], ["tail", "--help"], ["publish", "--help"]):
    main(arguments, standalone_mode=False)
try:
    main(["status", "--url", "http://127.0.0.1:1"])
except SystemExit as end:
    assert end.code == 1, end
"""


@pytest.mark.long
def test_the_packages_need_nothing_that_windows_lacks() -> None:
    environment = {**os.environ, "PYTHONPATH": search_path("gateway", "neurograph_client", "neurograph_publisher")}
    ended = subprocess.run(
        [sys.executable, "-c", WINDOWS], capture_output=True, text=True, env=environment, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.strip() == "Error: no gateway at http://127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(("refused_above", "limit"), [(12_000, 8192), (1 << 20, 1 << 20), (256, 256)])
def test_where_no_hard_limit_is_stated_open_files_are_raised_to_what_is_accepted(
    refused_above: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    now = [256, resource.RLIM_INFINITY]

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        if limits[0] > refused_above:
            raise ValueError("current limit exceeds maximum limit")
        now[:] = limits

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    allow_many_files()

    assert now == [limit, resource.RLIM_INFINITY]
