"""The servers that can be measured: how each is started, and its protocol."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.benchmarks.programs import program


Words = tuple[str, ...]


@dataclass(frozen=True)
class Server:
    """A program that sends events to WebSocket clients.

    In all that follows, ``{port}`` stands for its port, ``{bus}`` for the publisher's, ``{second}`` for a
    second one of its own, and ``{folder}`` for one of its own with its `files`. `publish` are the
    arguments of the publisher, `load` those of the load. It has a CPU to itself if it is `alone`, else
    it shares both with the load.
    """

    name: str
    command: Words
    publish: Words = ("zmtp", "{bus}")
    load: Words = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = True


def subscribe_to(*channels: str, options: str = "") -> str:
    """Return the message that subscribes to channels; `options` are further members."""
    names = ",".join(f'"{name}"' for name in channels)
    return f'{{"type":"subscribe","channels":[{names}]{options}}}'


def limit(kind: str) -> Server:
    """Return the loop in C: one send per `event` and client, or per `tick` and client."""
    return Server(f"C, a send per {kind}", (program("limit"), "{port}", "{bus}", kind))


def gateway(
    *settings: str, name: str = "gateway", subscribe: Words = (), alone: bool = True, beside: int = 1
) -> Server:
    """Return this project's gateway, all features on; or as many `beside` each other, at one port.

    `settings` are as for ``--set``; each client sends one of the messages in `subscribe`, in turn.
    """
    command = [sys.executable, "-m", "gateway", "serve"]
    if beside > 1:
        command = [sys.executable, "-m", "ops.benchmarks.beside", str(beside), "{port}"]
    command += [
        "--port",
        "{port}",
        "--bind",
        "",
        "--connect",
        "tcp://127.0.0.1:{bus}",
        "--set",
        "logging.level=warning",
    ]
    for one in ("bus.discovery_seconds=0", "clients.connections_max=20000", *settings):
        command += ["--set", one]
    texts = [word for text in subscribe or (subscribe_to("metrics"),) for word in ("--text", text)]
    return Server(name, tuple(command), load=tuple(texts), alone=alone)
