"""A worker's process: ``python -m gateway.workers LINK DOOR``, two inherited sockets."""

import sys

from gateway.workers.worker import run


if __name__ == "__main__":
    link, door = map(int, sys.argv[1:])
    sys.exit(run(link, door))
