"""The ZeroMQ context that all sockets of the bus share."""

import os
import sys

import zmq


Context = zmq.Context[zmq.Socket[bytes]]
SOCKETS_MAX = 4096
"""Each address that is connected to needs three, and libzmq's default is 1,023."""


def make_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """Return a context whose I/O thread does not preempt the event loop.

    On a busy CPU the thread would preempt the loop for every few messages. With SCHED_BATCH (sched(7))
    it waits for its turn, and then reads more messages at once. On an idle CPU it runs without delay."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    if sys.platform == "linux" and _may_batch():
        context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
    return context


def _may_batch() -> bool:
    """Tell whether this process may use SCHED_BATCH: libzmq aborts the process if it may not."""
    try:
        before = os.sched_getscheduler(0)
        if before != os.SCHED_OTHER:
            return False  # another policy was chosen for this process and its threads
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:  # a sandbox forbids the system call
        return False
    return True
