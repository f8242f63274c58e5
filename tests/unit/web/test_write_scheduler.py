"""When events are written: counted, on a real event loop; how long anything takes does not matter."""

from __future__ import annotations

import asyncio
import time

from gateway.config.model import Fanout as Settings
from gateway.core.fanout.cohorts import Reader
from gateway.core.sessions.requests import ConnectRequest
from gateway.web.write_scheduler import PAUSE_SECONDS_MAX, PENDING_MAX, WriteScheduler
from tests.support.core import Core, Writer, make_hub, open_identity, publish
from tests.support.waiting import eventually


NEVER = 1.0
"""The longest delay there can be; no test here lasts until its end."""


class Slow:
    """A socket to which a write is work for a while, and that counts writes and frames."""

    def __init__(self, hub: Core, *, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []
        connect_request = ConnectRequest(client_id="c", secret="c", identity=open_identity(), channels=["robots"])
        self.session = hub.connect(connect_request, self._reader, now_ns=0)
        hub.fanout.write()
        self.sizes.clear()

    def _reader(self) -> Reader:
        return Reader(writer=Writer(self._write), on_lag=lambda: None)

    def _write(self, data: bytes) -> None:
        self.sizes.append(data.count(b'"channel":"robots"'))
        work(self.seconds)


def work(seconds: float) -> None:
    """Keep this thread busy, however long others keep it from that."""
    done = time.thread_time() + seconds
    while time.thread_time() < done:
        pass


def scheduled(hub: Core, batching: str, seconds_max: float) -> tuple[WriteScheduler, list[float]]:
    """A write scheduler, and the delays it reports of its writes."""
    written: list[float] = []
    settings = Settings(batching=batching, batch_delay_seconds_max=seconds_max)  # type: ignore[arg-type]
    return WriteScheduler(hub.fanout, settings, on_written=written.append), written


async def test_an_event_that_comes_alone_is_written_at_once() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, written = scheduled(hub, "adaptive", NEVER)
    publish(hub, "robots")
    write_scheduler.close()

    assert socket.sizes == [1]
    assert len(written) == 1


async def test_events_are_batched_after_a_write_that_took_long() -> None:
    hub = make_hub()
    socket = Slow(hub, seconds=0.3)
    write_scheduler, written = scheduled(hub, "adaptive", NEVER)
    for _ in range(20):
        publish(hub, "robots")
    assert socket.sizes == [1], "the others wait"
    socket.seconds = 0.0
    await eventually(lambda: len(socket.sizes) == 2)
    write_scheduler.close()

    assert socket.sizes == [1, 19]
    assert len(written) == 2


async def test_work_too_short_for_a_timer_adds_up_to_a_delay() -> None:
    hub = make_hub()
    socket = Slow(hub, seconds=0.0002)
    write_scheduler, _ = scheduled(hub, "adaptive", NEVER)
    for _ in range(10_000):  # other load on this machine may give it pause enough, but not always
        publish(hub, "robots")
        if hub.fanout.pending:
            break
    pending = len(hub.fanout.pending)
    write_scheduler.close()

    assert pending == 1
    assert len(socket.sizes) > 1, "the first were written at once"


async def test_reading_pauses_for_as_long_as_the_loop_has_worked_within_a_limit() -> None:
    write_scheduler, _ = scheduled(make_hub(), "adaptive", NEVER)
    work(0.3)
    assert write_scheduler.pause_seconds(1) == 0, "that work was not for events"
    write_scheduler.begin_batch()
    work(0.3)
    assert write_scheduler.pause_seconds(1) == PAUSE_SECONDS_MAX
    write_scheduler.close()


async def test_reading_does_not_pause_after_a_large_batch() -> None:
    """One wake-up for so many events costs each of them little."""
    write_scheduler, _ = scheduled(make_hub(), "adaptive", NEVER)
    write_scheduler.begin_batch()
    work(0.02)

    assert write_scheduler.pause_seconds(10_000) == 0
    write_scheduler.close()


async def test_reading_never_pauses_without_a_delay() -> None:
    write_scheduler, _ = scheduled(make_hub(), "adaptive", 0.0)
    write_scheduler.begin_batch()
    work(0.02)

    assert write_scheduler.pause_seconds(1) == 0
    write_scheduler.close()


async def test_reading_pauses_while_a_fixed_delay_runs() -> None:
    hub = make_hub()
    Slow(hub)
    write_scheduler, _ = scheduled(hub, "fixed", NEVER)
    write_scheduler.begin_batch()
    work(0.02)
    assert write_scheduler.pause_seconds(1) == 0
    publish(hub, "robots")
    assert write_scheduler.pause_seconds(1) == PAUSE_SECONDS_MAX
    write_scheduler.close()


async def test_an_event_late_in_a_delay_ends_it_and_is_written_with_the_others() -> None:
    """The delay lasts as long as the work; after that the next event ends it."""
    hub = make_hub()
    socket = Slow(hub, seconds=0.4)
    write_scheduler, _ = scheduled(hub, "adaptive", NEVER)
    publish(hub, "robots")
    ends = write_scheduler._delay_timer
    publish(hub, "robots", 2)
    assert socket.sizes == [1]
    socket.seconds = 0.0
    while time.perf_counter() < write_scheduler._delay_until:
        pass  # and the loop does not run: no timer can end the delay
    publish(hub, "robots")
    assert socket.sizes == [1, 3]
    write_scheduler.close()

    assert ends is not None
    assert ends.cancelled()


async def test_after_a_delay_without_events_the_next_event_is_written_at_once() -> None:
    hub = make_hub()
    socket = Slow(hub, seconds=0.005)
    write_scheduler, _ = scheduled(hub, "adaptive", NEVER)
    publish(hub, "robots")
    await eventually(lambda: write_scheduler._delay_timer is None)
    publish(hub, "robots")
    write_scheduler.close()

    assert socket.sizes == [1, 1]


async def test_fixed_batching_delays_from_the_first_event_on() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, written = scheduled(hub, "fixed", 0.02)
    publish(hub, "robots")
    publish(hub, "robots", 2)
    assert socket.sizes == []
    await eventually(lambda: socket.sizes)
    publish(hub, "robots")
    assert socket.sizes == [3], "the next is delayed again"
    await eventually(lambda: len(socket.sizes) == 2)
    write_scheduler.close()

    assert socket.sizes == [3, 1]
    assert len(written) == 2


async def test_without_a_delay_nothing_is_batched() -> None:
    for batching in ("fixed", "adaptive"):
        hub = make_hub()
        socket = Slow(hub, seconds=0.002)
        write_scheduler, _ = scheduled(hub, batching, 0.0)
        for _ in range(5):
            publish(hub, "robots")
        write_scheduler.close()

        assert socket.sizes == [1] * 5, batching


async def test_a_delay_below_the_timers_resolution_delays_nothing() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, _ = scheduled(hub, "fixed", 0.0001)
    publish(hub, "robots")
    write_scheduler.close()

    assert socket.sizes == [1]


async def test_a_batch_is_bounded() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, _ = scheduled(hub, "fixed", 300 * NEVER)  # so many events take long on a busy machine
    for _ in range(PENDING_MAX + 10):
        publish(hub, "robots")
    pending = len(hub.fanout.pending)
    write_scheduler.close()

    assert socket.sizes == [PENDING_MAX]
    assert pending == 10


async def test_nothing_is_written_once_it_is_closed() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, _ = scheduled(hub, "fixed", 0.001)
    publish(hub, "robots")
    write_scheduler.close()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.002, later.set)
    await later.wait()

    assert socket.sizes == []


async def test_what_a_rate_holds_back_is_written_when_it_is_due() -> None:
    hub = make_hub()
    socket = Slow(hub)
    write_scheduler, _ = scheduled(hub, "adaptive", 0.0)
    hub.receive(socket.session, '{"type":"subscribe","channels":["robots"],"rate":4}', now_ns=time.monotonic_ns())
    socket.sizes.clear()
    for _ in range(3):
        publish(hub, "robots", now_ns=time.monotonic_ns())
    assert socket.sizes == [1], "the first comes at once"
    await eventually(lambda: len(socket.sizes) == 2)
    write_scheduler.close()

    assert hub.fanout.due_ns is None
