"""Time: durations by the monotonic clock, which nobody sets; timestamps by the wall clock.

All `now_ns` of this package are of the monotonic clock, which is the same in all processes of a machine.
"""

import time

from gateway.core.protocol.events import set_clock_offset


now_ns = time.monotonic_ns
unix_ns = time.time_ns


def follow_wall_clock() -> None:
    """Write timestamps by the wall clock as it is now; to be called again and again, as it may be set."""
    set_clock_offset(time.time_ns() - time.monotonic_ns())
