"""Addresses that nobody else uses."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path


_PORTS = range(20_000, 32_768)
"""Below those of Linux's ip_local_port_range."""
_given: set[int] = set()
"""Those that this process was given."""


def ipc(folder: Path, name: str) -> str:
    """An ipc endpoint in `folder`, short enough for a Unix socket's address (107 bytes)."""
    path = folder / name
    if len(str(path)) > 100:
        raise ValueError(f"{path} is too long for a Unix socket")
    return f"ipc://{path}"


def free_port() -> int:
    """A TCP port on the loopback interface that was free a moment ago, and no other call in this process returned.

    It is none that the kernel gives to connections: what is ended there and started again finds it free.
    """
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise AssertionError(f"no port is free between {_PORTS[0]} and {_PORTS[-1]}")


def free_tcp() -> str:
    """A ZeroMQ endpoint on a free loopback port."""
    return f"tcp://127.0.0.1:{free_port()}"
