"""The ZeroMQ context: what all sockets on the bus share."""

import os
import sys

import zmq


def make_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """Return a context whose I/O thread does not interrupt the event loop.

    Where the two share a busy CPU, the thread would take it away for every few messages that arrive.
    As a batch thread (sched(7), SCHED_BATCH) it waits for its turn and finds more of them; on an idle
    CPU it runs at once, as any other.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    if sys.platform == "linux" and _may_batch():
        context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_BATCH)
    return context


def _may_batch() -> bool:
    """Tell whether this process may have batch threads: libzmq aborts it if not."""
    before = os.sched_getscheduler(0)
    if before != os.SCHED_OTHER:
        return False  # whoever chose another policy for the process wants it for its threads, too
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except OSError:  # a sandbox without that system call
        return False
    return True
