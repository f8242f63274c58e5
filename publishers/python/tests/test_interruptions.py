"""Signal handlers that use a publisher, or raise, while a method of it runs."""

from __future__ import annotations

import gc
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from neurograph_publisher import GatewayLogHandler, Publisher, PublisherError

from tests.support.sizes import full

from .bus import Bus


EVENTS, PARTS = full((20_000, 20), (5_000, 5))


class Interruption(Exception):
    """Raised by a signal handler, as by Ctrl-C or a timeout."""


@contextmanager
def interrupted_by(act: Callable[[], Any], *, again: bool = True) -> Iterator[None]:
    """Run `act` in a signal handler soon, and with `again` repeatedly.

    The timer counts the process's CPU time, as the test runner uses the real-time timer. The handler does nothing
    during garbage collection, in which its exceptions would be ignored.
    """
    gc.disable()
    previous = signal.signal(signal.SIGVTALRM, lambda *_: act())
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005 if again else 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        gc.enable()


def test_logging_from_within_a_publish_does_not_deadlock(bus: Bus, publisher: Publisher) -> None:
    """A signal handler that logs interrupts `publish` on the same thread, while it holds its lock."""
    logger = logging.getLogger("core.signals")
    handler = GatewayLogHandler(publisher)
    logger.addHandler(handler)
    with interrupted_by(lambda: logger.warning("interrupted")):
        for number in range(EVENTS):
            publisher.publish("a", number)
    logger.removeHandler(handler)
    publisher.publish("end", 1)
    topics: dict[str, list[int]] = {"a": [], "logs": [], "end": []}
    while not topics["end"]:
        topic, _, (_, _, sequence, _) = bus.read()
        topics[topic].append(sequence)

    assert topics["a"] == list(range(1, EVENTS + 1))
    assert topics["logs"] == list(range(1, len(topics["logs"]) + 1))
    assert topics["logs"]


def test_closing_from_within_a_publish_raises_and_does_not_deadlock() -> None:
    publisher = Publisher(bind="tcp://127.0.0.1:*")

    def publish_on() -> None:
        while True:
            publisher.publish("a", 1)

    with interrupted_by(publisher.close), pytest.raises(PublisherError, match="closed"):
        publish_on()

    assert publisher.closed
    assert not publisher._attendant.is_alive()


def test_a_close_may_interrupt_a_waiting_close() -> None:
    """As a second Ctrl-C does; the signals use real time here, as a waiting process uses no CPU time."""
    for _ in range(200):
        publisher = Publisher(bind="tcp://127.0.0.1:*")
        previous = signal.signal(signal.SIGUSR1, lambda *_, close=publisher.close: close())
        closed = threading.Event()

        def interrupt(closed: threading.Event = closed) -> None:
            while not closed.wait(0.0003):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        publisher.close()
        closed.set()
        interrupting.join()
        signal.signal(signal.SIGUSR1, previous)

        assert not publisher._attendant.is_alive()


def test_waiting_from_within_a_publish_is_an_error() -> None:
    """Otherwise it would wait for ever."""
    with Publisher(bind="tcp://127.0.0.1:*") as publisher:
        seen: list[str] = []

        def wait() -> None:
            try:
                publisher.wait_for_subscriber(0)
            except PublisherError as error:
                seen.append(str(error))

        with interrupted_by(wait):
            while not seen:
                publisher.publish("a", 1)

        assert "signal handler" in seen[0]


def test_an_exception_between_two_frames_loses_only_that_message(bus: Bus, publisher: Publisher) -> None:
    """As after Ctrl-C is caught, and a last status is published."""
    completed: list[int] = []
    whole: list[int] = []
    numbers = itertools.count()
    parts = 0

    def interrupt() -> None:
        raise Interruption

    while parts < PARTS:  # about one of five interruptions happens between two frames
        with suppress(Interruption), interrupted_by(interrupt, again=False):
            for number in numbers:
                publisher.publish("a", number)
                completed.append(number)
        publisher.publish("end", 0)
        while (frames := bus.event_frames())[0] != b"end":
            assert len(frames) <= 3
            if len(frames) == 3 and frames[2]:
                whole.append(int(frames[1]))
            else:
                parts += 1

    assert set(completed) <= set(whole)
    assert whole == sorted(set(whole))
