"""Addresses that nobody else uses."""

from __future__ import annotations

import socket
from pathlib import Path


def ipc(folder: Path, name: str) -> str:
    """An ipc endpoint in `folder`, short enough for a Unix socket's address (107 bytes)."""
    path = folder / name
    if len(str(path)) > 100:
        raise ValueError(f"{path} is too long for a Unix socket")
    return f"ipc://{path}"


def free_port() -> int:
    """A TCP port on the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_tcp() -> str:
    """A ZeroMQ endpoint on a free loopback port."""
    return f"tcp://127.0.0.1:{free_port()}"
