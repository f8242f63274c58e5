"""Run several gateways that accept connections from one port, so that one load reaches all: `beside.py COUNT PORT ARGUMENTS`.

They share the listening socket, as systemd would pass it, and nothing else: each has its own connection to the bus."""

import os
import signal
import socket
import subprocess
import sys


_FIRST = 3  # sd_listen_fds(3)


def main(count: int, port: int, arguments: list[str]) -> int:
    """Start the gateways, and stop them when this process is stopped; return an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listening:
        os.dup2(listening.fileno(), _FIRST, inheritable=True)
        shell = [
            "/bin/sh",
            "-c",
            'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "gateway",
            "serve",
        ]
        gateways = [subprocess.Popen([*shell, *arguments], pass_fds=[_FIRST]) for _ in range(count)]
    try:
        return max(one.wait() for one in gateways)
    finally:
        for one in gateways:
            one.terminate()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
