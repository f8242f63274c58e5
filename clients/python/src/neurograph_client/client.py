"""The client: what an application follows, asks and sends."""

import asyncio
import inspect
import secrets
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote, urlencode

import aiohttp

from neurograph_client import rest
from neurograph_client.address import Address
from neurograph_client.answers import Channels, History, Info, Pong, Published, Status
from neurograph_client.backoff import Backoff
from neurograph_client.columns import COLUMNS_MAX, Columns
from neurograph_client.connection import Disconnect
from neurograph_client.encoding import Encoding, check_installed, to_json
from neurograph_client.errors import ClosedError, NotConnectedError
from neurograph_client.feed import Feed, Options
from neurograph_client.items import Channel, Data, Event, Gap, Position, behind, is_wildcard, matches
from neurograph_client.link import Link, State, Token, log
from neurograph_client.replies import Replies
from neurograph_client.subscription import Subscription, held_now
from neurograph_client.transport import Transport


Since = Position | Mapping[str, Position]
Handler = Callable[[Event[Any] | Gap], object]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


_HISTORY_MAX = 1_000
"""As many events can be asked for over HTTP at once."""

_ROOM_BYTES = 256
"""What a message has beside what is published."""


def _log_warning(text: str) -> None:
    log.warning("%s", text)


class Client:
    """Follows a gateway's events; use it as an ``async with`` block, or with `run_forever`.

    A lost connection is made again, and every subscription goes on where it stood: the application
    sees each event once, in the order of its channel, or a `Gap` that names what is missing. Only a
    gateway that says so (a close code of 4500 or more, or an HTTP status such as 401) ends it.

    `url` is the gateway's, such as ``http://127.0.0.1:8000``. `token` is sent as a bearer token; a
    function, async or not, is asked for a fresh one at every connection. `timeout` bounds every
    answer, in seconds. `buffer` is how many items may wait for each subscription. When the
    application is slower than that, nothing more is read from the socket until half of them are
    taken: nothing is lost, as the gateway goes on from its log, but all subscriptions of this client
    wait. `on_state` is called with each change of `state`, `on_warning` with what the gateway takes for a
    mistake: a channel that does not exist yet and resembles one that does, a filter that fails on events.
    Without `on_warning`, warnings are logged. `ssl` has the certificates to trust, or a client's own; `headers` are sent
    with every request; `proxy` is the URL of an HTTP proxy. `compression` offers permessage-deflate, which the
    gateway takes if `clients.compression_bytes_min` is set. ``encoding="msgpack"`` asks for MessagePack in place of
    JSON, which needs the extra ``neurograph-client[msgpack]``; an older gateway goes on with JSON.

    Raises:
        ValueError: `url` is no address of a gateway, or `buffer` is not positive.
        ImportError: `encoding` is ``msgpack``, and msgspec is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        user_id: str | None = None,
        timeout: float = 10.0,
        buffer: int = 10_000,
        backoff: Backoff | None = None,
        on_state: Callable[[State], object] | None = None,
        on_warning: Callable[[str], object] = _log_warning,
        ssl: SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        compression: bool = True,
        encoding: Encoding = "json",
    ) -> None:
        if buffer < 1:
            raise ValueError("buffer: at least one item has to fit")
        check_installed(encoding)
        self._address = Address(url)
        self._timeout = timeout
        self._buffer = buffer
        self._transport = Transport(ssl, headers or {}, proxy, compression, encoding)
        self._new_link = partial(
            Link,
            self._address,
            token=token,
            user_id=user_id,
            backoff=backoff or Backoff(),
            timeout=timeout,
            transport=self._transport,
            on_warning=on_warning,
        )
        self._on_state = on_state
        self._is_closed = False
        self._link = self._new_link(on_state=on_state)
        self._others: list[Link] = []
        """Further connections: one has a single filter and rate for each name."""
        self._replies = Replies(self._personal)
        self._http: aiohttp.ClientSession | None = None
        self._running: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._handlers: list[tuple[tuple[str, ...], Handler, Options]] = []
        self._handling: set[asyncio.Task[None]] = set()

    # -- its life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect; what fails is tried again for as long as `timeout` allows.

        Raises:
            NotConnectedError: There was no connection in time; the text says why.
            ClosedError: The gateway does not want this client.
        """
        over = self._start()
        welcomed = asyncio.create_task(self._link.welcomed.wait())
        either: set[asyncio.Future[Any]] = {welcomed, over}
        try:
            await asyncio.wait(either, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                await over
            if not welcomed.done():
                why = self._link.last_disconnect.reason if self._link.last_disconnect else "no answer"
                raise NotConnectedError(f"{self._address.url}: {why}")
        except BaseException:
            await self.close()
            raise
        finally:
            welcomed.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run_forever(self) -> None:
        """Stay connected and serve the handlers, until `close` or a cancellation.

        Also starts the client; then there is no limit on how long the first connection may take.

        Raises:
            ClosedError: The gateway does not want this client any more.
            Exception: What a handler raised.
        """
        mine = self._running is None or self._is_closed
        over = self._start()
        try:
            await asyncio.shield(over)
        finally:
            if mine:
                await self.close()

    async def close(self) -> None:
        """Leave: subscriptions end, and no task is left behind. Harmless if done twice; the client may start again."""
        for link in (self._link, *self._others):
            link.end(StopAsyncIteration())
        tasks = [task for task in (self._running, *self._handling) if task is not None]
        tasks = [task for task in tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._replies.close()
        if self._http is not None:
            await self._http.close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._is_closed = True

    def _start(self) -> asyncio.Future[None]:
        if self._is_closed:
            self._is_closed, self._over, self._others = False, None, []
            self._link = self._new_link(on_state=self._on_state)
        if self._over is not None:
            if self._running is None or self._link.state == "closed":
                raise ClosedError("this client was closed")
            return self._over
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        self._http = self._transport.session()
        self._running = loop.create_task(self._run(self._over))
        for link in self._others:
            self._keep(link)
        for patterns, handler, options in self._handlers:
            self._handle(patterns, handler, options)
        return self._over

    async def _run(self, over: asyncio.Future[None]) -> None:
        why: Exception
        try:
            why = await self._link.run()
        except Exception as error:  # a fault of ours: whoever waits is to hear of it
            why = error
        self._link.end(why)
        if not over.done():
            over.set_exception(why)
            over.exception()  # every subscription raises it, too

    # -- events --------------------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        *channels: Channel[Data],
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> Subscription[Data]: ...
    @overload
    def subscribe(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> Subscription[Any]: ...
    def subscribe(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> Subscription[Any]:
        """Follow channels, by name or pattern (``logs.*``, ``robots.>``).

        `last` begins with the newest so many events that the gateway holds; 1 is the current value.
        `since` goes on behind a position, or behind one for each channel. `filter` is a condition in
        CEL, ``data.level == 'error'``. `rate` is in events per second: the newest wins. Personal
        messages are on ``$personal``, those to everyone on ``$everyone``.

        Subscriptions to one name with different filters or rates each take a connection of their own.

        Raises:
            ValueError: No channel, or one position for several channels.
            ClosedError: The client has ended.
        """
        return self._subscribe(channels, Options(last, since, filter, rate))

    @overload
    def on(
        self,
        channel: str,
        handler: Handler,
        *,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> None: ...
    @overload
    def on(
        self,
        channel: str,
        *,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    def on(
        self,
        channel: str,
        handler: Handler | None = None,
        *,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        rate: float | None = None,
    ) -> Callable[[AnyHandler], AnyHandler] | None:
        """Call a function, async or not, with each event and gap of a channel, one after the other.

        It may be given before the client has started; the options are as in `subscribe`. What it
        raises ends `run_forever`. Without `handler` it decorates one: ``@client.on("metrics", last=1)``.
        """
        options = Options(last, since, filter, rate)
        if handler is None:

            def decorate(function: AnyHandler) -> AnyHandler:
                self._add_handler(channel, function, options)
                return function

            return decorate
        self._add_handler(channel, handler, options)
        return None

    def _add_handler(self, channel: str, handler: Handler, options: Options) -> None:
        if self._over is None:
            self._handlers.append(((channel,), handler, options))
        else:
            self._handle((channel,), handler, options)

    def _subscribe(self, channels: tuple[str, ...], options: Options) -> Subscription[Any]:
        if not channels:
            raise ValueError("name a channel")
        if isinstance(options.since, Position) and (len(channels) > 1 or is_wildcard(channels[0])):
            raise ValueError("since: for several channels or a pattern, give a position for each channel, by name")
        if self._link.state == "closed":
            raise ClosedError("this client was closed")
        return self._follow(self._link_for(channels, options), channels, options)

    def _personal(self) -> Subscription[Any]:
        """Follow the personal messages of this client's own session."""
        return self._follow(self._link, ("$personal",), Options())

    def _follow(self, link: Link, channels: tuple[str, ...], options: Options) -> Subscription[Any]:
        feed = Feed(tuple(channels), options, limit=self._buffer, on_room=link.go_on)
        link.follow(feed)
        catch_up = partial(link.catch_up, feed, partial(self._positions, feed.patterns))
        return Subscription(feed, timeout=self._timeout, let_go=link.leave, catch_up=catch_up)

    async def _positions(self, names: tuple[str, ...]) -> dict[str, Position]:
        found = {one["name"]: Position(**one["position"]) for one in await self.channels()}
        return {name: at for name, at in found.items() if any(matches(pattern, name) for pattern in names)}

    def _link_for(self, channels: tuple[str, ...], options: Options) -> Link:
        """Return the first connection that follows none of the channels with another filter or rate."""
        for link in (self._link, *self._others):
            if link.state != "closed" and not link.conflicts(channels, options):
                return link
        link = self._new_link()
        self._others.append(link)
        if self._over is not None:
            self._keep(link)
        return link

    def _keep(self, link: Link) -> None:
        task = asyncio.get_running_loop().create_task(self._run_other(link))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def _run_other(self, link: Link) -> None:
        why: Exception
        try:
            why = await link.run()
        except Exception as error:  # a fault of ours: whoever waits is to hear of it
            why = error
        link.end(why)

    def _handle(self, channels: tuple[str, ...], handler: Handler, options: Options) -> None:
        subscription = self._subscribe(channels, options)
        task = asyncio.get_running_loop().create_task(self._call(subscription, handler))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def _call(self, subscription: Subscription[Any], handler: Handler) -> None:
        try:
            async for item in subscription:
                result = handler(item)
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            if self._over is not None and not self._over.done():
                self._over.set_exception(error)
        finally:
            subscription.close()

    # -- questions -----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """``new``, ``connecting``, ``connected``, ``reconnecting`` (the pause before the next attempt) or ``closed``."""
        return self._link.state

    @property
    def connection_count(self) -> int:
        """How many connections there have been."""
        return self._link.connection_count

    @property
    def last_disconnect(self) -> Disconnect | None:
        """How the last connection or attempt ended, if one has."""
        return self._link.last_disconnect

    @property
    def info(self) -> Info:
        """What the gateway said at the last connection.

        Raises:
            NotConnectedError: There has been none.
        """
        hello = self._link.hello
        if not hello:
            raise NotConnectedError("not connected yet")
        return Info.read(hello)

    async def ping(self) -> Pong:
        """Ask the gateway for a sign of life.

        Raises:
            NotConnectedError: There is no connection, or it was lost before the answer.
            TimeoutError: No answer came in time.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await self._link.ask({"type": "ping"})
        return Pong.read(answer, loop.time() - began)

    async def subscriptions(self) -> list[str]:
        """Ask the gateway what this client follows; raises what `ping` does."""
        asked = [link.ask({"type": "get_subscriptions"}) for link in (self._link, *self._others)]
        answers = await asyncio.gather(*asked)
        return list(dict.fromkeys(name for answer in answers for name in answer["channels"]))

    async def refresh_token(self) -> None:
        """Give the gateway a fresh token now; by itself that happens before the old one expires.

        Raises:
            RequestRefusedError: The gateway does not take it.
            NotConnectedError: There is no connection, or it was lost before the answer.
            TimeoutError: No answer came in time.
        """
        await self._link.refresh_token()

    # -- over HTTP -----------------------------------------------------------------------------

    async def publish(
        self, channel: str, data: Any, event_type: str | None = None, *, mandatory: bool = False
    ) -> Published:
        """Publish on a channel: an event object if `event_type` is given, else JSON as it is.

        `data` may also be bytes: subscribers get them as the event's `data`.
        If the connection is lost before the answer, it is asked again on the next one; the event is published
        once. A `mandatory` event is published only if somebody gets it: a process on the bus, if the channel is
        published there, else a client.

        Raises:
            NotConnectedError: There was no connection in time; or it was lost, and the gateway has restarted or
                forgotten this client: the text says so, and the event may have been published.
            RequestRefusedError: The event is not a valid one, or the channel is none; with the code
                ``no_subscribers`` as it is `mandatory`, and nobody would get it.
            TimeoutError: No answer came in time.
        """
        event = data if event_type is None else {"event_type": event_type, "data": data}
        message: dict[str, Any] = {"channel": channel, "event": event, "idempotency_key": secrets.token_hex(16)}
        if mandatory:
            message["mandatory"] = True
        if self._http is None:
            raise NotConnectedError("this client was not started")
        limits = self._link.hello.get("limits")
        if limits and len(to_json(message)) + _ROOM_BYTES > limits["message_bytes_max"]:
            return Published.read(await self._request("POST", "broadcast", message))
        return Published.read(await self._link.ask_once({"type": "publish", **message}, within=self._timeout))

    async def request(
        self,
        channel: str,
        data: Any,
        event_type: str = "request",
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # a part of the request, as the client's own
    ) -> Event[Any]:
        """Publish an event that asks for an answer, and return the answer: the first event that comes back for it.

        Any process on the bus may answer, or any program over HTTP: see `reply_to` in docs/protocol.md. `timeout` is
        in seconds, without one that of the client.

        Raises:
            RequestRefusedError: The gateway does not publish it; with the code ``no_subscribers`` as nobody listens.
            NotConnectedError: There was no connection in time; or the gateway restarted or forgot this client before
                the answer came: what was asked may have been done.
            ClosedError: The client was closed.
            TimeoutError: No answer came in time.
        """
        if self._http is None:
            raise NotConnectedError("this client was not started")
        within = self._timeout if timeout is None else timeout
        request_id = secrets.token_hex(16)
        message = {
            "type": "publish",
            "channel": channel,
            "event": {"event_type": event_type, "data": data},
            "idempotency_key": request_id,
            "mandatory": True,
            "request_id": request_id,
        }
        try:
            async with asyncio.timeout(within):
                reply = await self._replies.expect(request_id)
                await self._link.ask_once(message, within=within)
                self._replies.sent(request_id)
                return await reply
        except TimeoutError:
            raise TimeoutError(f"{channel}: no answer in {within:g} s") from None
        finally:
            self._replies.leave(request_id)

    async def broadcast(
        self, event_type: str, data: Any, *, client_id: str | None = None, user_id: str | None = None
    ) -> int:
        """Send an event to a client, to all of a user's, or to everyone; returns to how many.

        Raises what `publish` does.
        """
        to: dict[str, Any] = {"client_id": client_id, "user_id": user_id}
        to = {name: value for name, value in to.items() if value is not None}
        event = {"event_type": event_type, "data": data}
        answer = await self._request("POST", "broadcast", {**(to or {"everyone": True}), "event": event})
        return int(answer["recipients"])

    async def status(self) -> Status:
        """Return the gateway's status document; raises what `publish` does."""
        return Status(await self._request("GET", "status"))

    async def channels(self) -> Channels:
        """Return the open channels that this client may see, as the gateway describes them; raises what `publish` does."""
        return Channels((await self._request("GET", "channels"))["channels"])

    async def history(
        self, channel: str, *, last: int | None = None, since: Position | None = None, limit: int = 100
    ) -> History:
        """Return the newest events of a channel, or those behind a position; `limit` is at most 1,000.

        `last` stands instead of both: the newest so many that are held, over a subscription if that is more than 1,000.

        Raises what `publish` does.
        """
        if last is not None:
            return await self._newest(channel, last)
        query: dict[str, object] = {"limit": limit}
        if since is not None:
            query["since"] = str(since)
        answer = await self._request("GET", f"channels/{quote(channel)}/events?{urlencode(query)}")
        return History.read(answer, since)

    async def _newest(self, channel: str, last: int) -> History:
        if last <= _HISTORY_MAX:
            return await self.history(channel, limit=last)
        following = (await self.history(channel, limit=1)).next
        async with aclosing(held_now(self._subscribe((channel,), Options(last)))) as held:
            items = [item async for some in held for item in some]
        reached: Position | None = None
        for item in items:
            reached = behind(reached, item)
        return History(items, reached or following, None)

    async def columns(
        self,
        *channels: str,
        last: int | None = None,
        since: Since | None = None,
        filter: str | None = None,
        flatten: bool = True,
        columns_max: int = COLUMNS_MAX,
    ) -> Columns:
        """Return what the gateway holds now of some channels as columns; see `subscribe` for what is asked for.

        The events themselves are not kept, so that a million take few bytes.

        Raises:
            ClosedError: The client has ended.
            RequestRefusedError: The gateway refused it.
            ValueError: Data has more than `columns_max` different members.
        """
        found = Columns(flatten=flatten, columns_max=columns_max)
        async with aclosing(held_now(self._subscribe(channels, Options(last, since, filter)))) as held:
            async for some in held:
                found.extend(some)
        return found

    async def presence(self, channel: str) -> dict[str, Any]:
        """Return who is subscribed to a channel; raises what `publish` does."""
        found: dict[str, Any] = await self._request("GET", f"channels/{quote(channel)}/presence")
        return found

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._http is None:
            raise NotConnectedError("this client was not started")
        return await rest.request(
            self._http, self._address, method, path, headers=await self._link.headers(), within=self._timeout, body=body
        )
