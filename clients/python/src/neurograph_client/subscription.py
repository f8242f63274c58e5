"""A subscription as the application holds it: something to iterate over, and to let go of."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self

from neurograph_client.feed import Feed
from neurograph_client.items import Data, Event, Gap, Position


class Subscription(Generic[Data]):
    """Events of some channels, and gaps where events are missing, in the order of each channel.

    Iterate over it, in one task at a time. It ends with `close`, with its ``async with`` block, or
    when nothing refers to it any more, so that leaving an ``async for`` loop is enough. As a
    context manager it also waits until the gateway has confirmed it: what is published from then
    on is owed to it.
    """

    def __init__(
        self, feed: Feed, *, timeout: float, let_go: Callable[[Feed], object], catch_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._feed = feed
        self._timeout = timeout
        self._let_go = let_go
        self._catch_up = catch_up
        self._loop = asyncio.get_running_loop()

    @property
    def channels(self) -> tuple[str, ...]:
        """The names and patterns that it follows."""
        return self._feed.patterns

    @property
    def starts(self) -> dict[str, Position]:
        """Behind which position each channel began that the gateway had then."""
        return dict(self._feed.starts)

    @property
    def waiting(self) -> int:
        """How many items wait to be taken."""
        return len(self._feed)

    @property
    def conflated(self) -> int:
        """How many events were replaced by newer ones, as `rate` or `last=1` asked."""
        return self._feed.conflated

    @property
    def duplicates(self) -> int:
        """How many events came again, and were not given to the application."""
        return self._feed.duplicates

    async def confirmed(self) -> None:
        """Wait until the gateway has confirmed it.

        Raises:
            TimeoutError: It has not in time.
            RequestRefusedError: It will not.
            ClosedError: The client has ended.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._feed.confirmed.wait()
        except TimeoutError:
            names = ", ".join(self.channels)
            raise TimeoutError(f"{names}: the gateway has not confirmed it within {self._timeout:g} s") from None
        if self._feed.over is not None and not isinstance(self._feed.over, StopAsyncIteration):
            raise self._feed.over

    async def caught_up(self) -> None:
        """Wait until all that the gateway holds now, and that is asked for, waits here or was taken.

        Raises what `confirmed` and `Client.channels` do.
        """
        await self.confirmed()
        await self._catch_up()

    def close(self) -> None:
        """Follow no longer; what waits can still be taken."""
        if self._feed.over is None:
            self._feed.end(StopAsyncIteration())
        self._let_go(self._feed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[Data] | Gap:
        return self._feed.take_now() or await self._feed.take()

    async def take_all(self) -> list[Event[Data] | Gap]:
        """Wait until something has come, and return all that has: cheaper than one by one.

        Raises:
            StopAsyncIteration: The subscription was closed.
            ClientError: The gateway refused it, or the client has ended for good.
        """
        return list(await self._feed.take_all())

    def take_waiting(self) -> list[Event[Data] | Gap]:
        """Return all that waits, without waiting for more."""
        return list(self._feed.take_waiting())

    async def __aenter__(self) -> Self:
        try:
            await self.confirmed()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        feed = getattr(self, "_feed", None)
        if feed is None or feed.over is not None or self._loop.is_closed():
            return
        # The collector may run in any thread.
        self._loop.call_soon_threadsafe(_abandon, feed, self._let_go)


async def take_until(
    subscription: Subscription[Data], done: asyncio.Future[None] | None, seconds: float | None = None
) -> list[Event[Data] | Gap]:
    """Return what has come as soon as something has, or `done` is: then it may be nothing.

    Raises:
        TimeoutError: Nothing came in time.
        StopAsyncIteration: The subscription was closed.
    """
    taking = asyncio.create_task(subscription.take_all())
    waiting: set[asyncio.Future[Any]] = {taking} if done is None else {taking, done}
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done is not None and done.done():
            return [*(taking.result() if taking.done() else []), *subscription.take_waiting()]
        if not taking.done():
            raise TimeoutError
        return taking.result()
    finally:
        taking.cancel()


async def held_now(subscription: Subscription[Data]) -> AsyncGenerator[list[Event[Data] | Gap], None]:
    """Yield all that the gateway holds now of what a new subscription asks for, as it comes; then close it."""
    caught_up = asyncio.create_task(subscription.caught_up())
    try:
        while not caught_up.done():
            yield await take_until(subscription, caught_up)
        await caught_up
        yield subscription.take_waiting()
    finally:
        caught_up.cancel()
        subscription.close()


def _abandon(feed: Feed, let_go: Callable[[Feed], object]) -> None:
    feed.end(StopAsyncIteration())
    let_go(feed)
