"""Who waits for an answer, and the personal messages that bring them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from neurograph_client.errors import ClientError, ClosedError, NotConnectedError
from neurograph_client.items import Event, Gap
from neurograph_client.subscription import Subscription


Reply = asyncio.Future[Event[Any]]


class Replies:
    """Hands each answer to who waits for it, by the id of its request; a second answer is ignored."""

    def __init__(self, subscribe: Callable[[], Subscription[Any]]) -> None:
        self._subscribe = subscribe
        self._waiting: dict[str, Reply] = {}
        self._sent: set[str] = set()
        """The requests that the gateway has published."""
        self._task: asyncio.Task[None] | None = None

    async def expect(self, request_id: str) -> Reply:
        """Wait for an answer from now on; call `leave` in the end.

        Raises:
            ClosedError: The client has ended.
        """
        if self._task is None or self._task.done():
            subscription = self._subscribe()
            await subscription.confirmed()
            self._task = asyncio.create_task(self._take(subscription))
        reply = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        return reply

    def sent(self, request_id: str) -> None:
        """Note that the gateway has published a request."""
        self._sent.add(request_id)

    def leave(self, request_id: str) -> None:
        """Wait no longer."""
        self._waiting.pop(request_id, None)
        self._sent.discard(request_id)

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _take(self, subscription: Subscription[Any]) -> None:
        why: ClientError = ClosedError("this client was closed")
        try:
            async for item in subscription:
                if isinstance(item, Gap):
                    self._on_gap()
                else:
                    self._on_event(item)
        except ClientError as error:
            why = error
        finally:
            self._fail(list(self._waiting), why)

    def _on_event(self, event: Event[Any]) -> None:
        reply = self._waiting.get(event.message.get("request_id", ""))
        if reply is not None and not reply.done():
            reply.set_result(event)

    def _on_gap(self) -> None:
        """Fail the requests whose answers may be among what is missing."""
        self._fail(
            list(self._sent),
            NotConnectedError(
                "the gateway restarted or forgot this client, or dropped messages to it: what was asked may have been "
                "done, and its answer may be lost"
            ),
        )

    def _fail(self, request_ids: list[str], why: ClientError) -> None:
        for one in request_ids:
            reply = self._waiting.get(one)
            if reply is not None and not reply.done():
                reply.set_exception(why)
                reply.exception()  # whoever waits raises it, too
