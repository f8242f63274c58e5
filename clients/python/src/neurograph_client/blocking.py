"""The client without asyncio, for scripts and notebooks."""

import asyncio
import concurrent.futures
import math
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, overload

from neurograph_client.answers import Channels, History, Pong, Published, Status
from neurograph_client.client import Client, Since
from neurograph_client.columns import COLUMNS_MAX, Columns
from neurograph_client.items import Channel, Data, Event, Gap, Position
from neurograph_client.subscription import Subscription, take_until


Result = TypeVar("Result")


class CaughtUp(Enum):
    """The type of `CAUGHT_UP`."""

    CAUGHT_UP = "caught up"


CAUGHT_UP: Final = CaughtUp.CAUGHT_UP
"""Stands in `BlockingClient.events` behind all that the gateway held when the iteration began."""


def connect(url: str, **options: Any) -> "BlockingClient":
    """Connect to a gateway, for use without asyncio; the options are those of `Client`.

    Raises:
        ValueError: `url` is no address of a gateway.
        NotConnectedError: There was no connection in time.
        ClosedError: The gateway does not want this client.
    """
    return BlockingClient(Client(url, **options))


class BlockingClient:
    """A `Client` on a thread of its own; made by `connect`, ended by `close` or when it is let go of."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._thread = _Thread(client)
        # Also at the interpreter's exit, while threads still run.
        self._end = weakref.finalize(self, self._thread.end)
        try:
            self._call(client.__aenter__())
        except BaseException:
            self.close()
            raise

    @overload
    def events(
        self,
        *channels: Channel[Data],
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
        timeout: float | None = None,
        count: int | None = None,
        caught_up: Literal[False] = False,
    ) -> Iterator[Event[Data] | Gap]: ...
    @overload
    def events(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
        timeout: float | None = None,
        count: int | None = None,
        caught_up: Literal[False] = False,
    ) -> Iterator[Event[Any] | Gap]: ...
    @overload
    def events(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
        timeout: float | None = None,
        count: int | None = None,
        caught_up: Literal[True],
    ) -> Iterator[Event[Any] | Gap | CaughtUp]: ...
    def events(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
        timeout: float | None = None,
        count: int | None = None,
        caught_up: bool = False,
    ) -> Iterator[Event[Any] | Gap | CaughtUp]:
        """Iterate over events and gaps, for as long as the client lives; see `Client.subscribe`.

        It ends after `count` of them, or when none came for `timeout` seconds. With `caught_up`, `CAUGHT_UP` comes
        once, behind all that the gateway held when the iteration began and that is asked for.
        """

        client = self._client

        async def subscribe() -> Subscription[Any]:
            return client.subscribe(*channels, last=last, since=since, filter=filter, rate=rate)

        subscription = self._call(subscribe())
        catching_up = self._call(_task(subscription.caught_up())) if caught_up else None
        left = math.inf if count is None else count
        try:
            while left > 0:
                try:
                    items = self._thread.call(_next(subscription, catching_up, timeout))
                except (StopAsyncIteration, TimeoutError, _ClosedError):
                    return
                for item in items:
                    if item is CAUGHT_UP:
                        catching_up = None
                    elif left > 0:
                        left -= 1
                    else:
                        return
                    yield item
        finally:
            self._thread.soon(subscription.close)
            # After Ctrl-C, a notebook keeps the traceback with this frame: the client may end none the less.
            del self

    def columns(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        flatten: bool = True,
        columns_max: int = COLUMNS_MAX,
    ) -> Columns:
        """Return what the gateway holds now of some channels as columns; see `Client.columns`."""
        options: dict[str, Any] = {"last": last, "since": since, "filter": filter}
        return self._call(self._client.columns(*channels, **options, flatten=flatten, columns_max=columns_max))

    def follow(
        self,
        handler: Callable[[list[Event[Any] | Gap]], object],
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
        every: float = 0.1,
        on_end: Callable[[Exception | None], object] | None = None,
    ) -> Callable[[], None]:
        """Call a function with all events and gaps that have come, `every` seconds apart, until what is returned is called.

        It runs on this client's thread, and must return soon. Where nothing comes for five times as long, it is called
        with an empty list. `on_end` is called once, with what ended it: None if that was asked for.
        """

        async def start() -> asyncio.Task[Exception | None]:
            subscription = self._client.subscribe(*channels, last=last, since=since, filter=filter, rate=rate)
            task = asyncio.create_task(_follow(subscription, handler, every))
            if on_end is not None:
                task.add_done_callback(lambda done: on_end(None if done.cancelled() else done.result()))
            return task

        task = self._call(start())
        return partial(self._thread.soon, task.cancel)

    def publish(self, channel: str, data: Any, event_type: str | None = None, *, mandatory: bool = False) -> Published:
        """Publish on a channel; see `Client.publish`."""
        return self._call(self._client.publish(channel, data, event_type, mandatory=mandatory))

    def request(
        self, channel: str, data: Any, event_type: str = "request", *, timeout: float | None = None
    ) -> Event[Any]:
        """Publish an event that asks for an answer, and return that; see `Client.request`."""
        return self._call(self._client.request(channel, data, event_type, timeout=timeout))

    def broadcast(self, event_type: str, data: Any, *, client_id: str | None = None, user_id: str | None = None) -> int:
        """Send an event to a client, a user's, or everyone; see `Client.broadcast`."""
        return self._call(self._client.broadcast(event_type, data, client_id=client_id, user_id=user_id))

    def channels(self) -> Channels:
        """Return the open channels; see `Client.channels`."""
        return self._call(self._client.channels())

    def history(
        self, channel: str, *, last: int | None = None, since: Position | None = None, limit: int = 100
    ) -> History:
        """Return a part of a channel's history; see `Client.history`."""
        return self._call(self._client.history(channel, last=last, since=since, limit=limit))

    def presence(self, channel: str) -> dict[str, Any]:
        """Return who is subscribed to a channel; see `Client.presence`."""
        return self._call(self._client.presence(channel))

    def ping(self) -> Pong:
        """Ask the gateway for a sign of life; see `Client.ping`."""
        return self._call(self._client.ping())

    def subscriptions(self) -> list[str]:
        """Ask the gateway what this client follows; see `Client.subscriptions`."""
        return self._call(self._client.subscriptions())

    def status(self) -> Status:
        """Return the gateway's status document; see `Client.status`."""
        return self._call(self._client.status())

    def close(self) -> None:
        """Leave, and end the thread; harmless if done twice. Like a file, it does not open again: `connect` makes a new one."""
        self._end()

    def __enter__(self) -> Self:
        """Raises RuntimeError if it was closed."""
        self._thread.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, doing: Coroutine[Any, Any, Result]) -> Result:
        return self._thread.call(doing)


async def _task(doing: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    return asyncio.create_task(doing)


async def _next(
    subscription: Subscription[Any], catching_up: asyncio.Task[None] | None, seconds: float | None
) -> list[Event[Any] | Gap | CaughtUp]:
    """Return what has come, with `CAUGHT_UP` at its end if that is reached; raises what `take_until` does."""
    items: list[Event[Any] | Gap | CaughtUp] = [*await take_until(subscription, catching_up, seconds)]
    if catching_up is not None and catching_up.done():
        catching_up.result()
        items.append(CAUGHT_UP)
    return items


async def _follow(
    subscription: Subscription[Any], handler: Callable[[list[Event[Any] | Gap]], object], every: float
) -> Exception | None:
    """Call a function with what comes, and return why that ended."""
    try:
        while True:
            try:
                items = await take_until(subscription, None, 5 * every)
            except TimeoutError:
                items = []
            handler(items)
            await asyncio.sleep(every)
    except StopAsyncIteration:
        return None
    except Exception as error:  # also what the handler raised: it has nobody else to catch it
        return error
    finally:
        subscription.close()


class _ClosedError(RuntimeError):
    """Nothing can be asked of a client that was closed."""


_CLOSED = "this client was closed, and does not start again: `connect` makes a new one"


class _Thread:
    """A loop on a thread of its own, on which a client lives."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._ended = False
        self._lock = threading.Lock()
        """Held by who hands something to the loop: none may come once it ends."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="neurograph-client", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RuntimeError if the client was closed."""
        if self._ended:
            raise _ClosedError(_CLOSED)

    def call(self, doing: Coroutine[Any, Any, Result]) -> Result:
        """Do something on the loop, and wait for what comes of it.

        Raises:
            RuntimeError: The client was closed, be it meanwhile.
        """
        with self._lock:
            if self._ended:
                doing.close()
                raise _ClosedError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(doing, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _ClosedError(_CLOSED) from None
        except BaseException:  # Ctrl-C: let nothing run on
            future.cancel()
            raise

    def soon(self, act: Callable[[], object]) -> None:
        """Do something on the loop without waiting for it, unless it has ended."""
        with self._lock:
            if not self._ended:
                self._loop.call_soon_threadsafe(act)

    def end(self) -> None:
        """Leave, and end the thread; what is still waited for ends as well."""
        if threading.current_thread() is self._thread:  # the collector runs in any thread
            threading.Thread(target=self.end).start()
            return
        with self._lock:
            if self._ended:
                return
            self._ended = True
        try:
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
        finally:  # Ctrl-C: the thread ends none the less
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _leave(self) -> None:
        await self._client.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
