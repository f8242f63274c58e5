"""Keeps one connection up, and on it what the application follows."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Literal

import orjson

from neurograph_client.address import Address
from neurograph_client.answers import Pong
from neurograph_client.backoff import Backoff
from neurograph_client.batches import batches
from neurograph_client.connection import ABNORMAL, Connection, Disconnect
from neurograph_client.errors import ClientError, ClosedError, NotConnectedError, RequestRefusedError
from neurograph_client.feed import Feed, Options
from neurograph_client.feeds import Feeds
from neurograph_client.items import Position
from neurograph_client.routes import OWN, Message, Routes, patterns
from neurograph_client.transport import Transport


State = Literal["new", "connecting", "connected", "reconnecting", "closed"]
Token = str | Callable[[], str | Awaitable[str]]

_ADDRESS_BYTES_MAX = 4000
_ROOM_BYTES = 256
_CHANNELS_MAX = 1_000
_LATER_SECONDS = 0.001
"""A timer may fire a little early."""

log = logging.getLogger("neurograph_client")

_CATCH_UP_SECONDS = (0.02, 0.5)
"""The first and the longest pause between two looks at how far a feed has come."""


class Link:
    """Connects, reconnects, and resumes every subscription where it stood.

    A session that the gateway remembers brings them by itself, and goes on at the positions that the
    address names. Otherwise they are subscribed again with their positions.
    """

    def __init__(
        self,
        address: Address,
        *,
        token: Token | None,
        user_id: str | None,
        backoff: Backoff,
        timeout: float,
        transport: Transport,
        on_warning: Callable[[str], object],
        on_state: Callable[[State], object] | None = None,
    ) -> None:
        self.state: State = "new"
        self.hello: Message = {}
        self.connection: Connection | None = None
        self.connection_count = 0
        self.last_disconnect: Disconnect | None = None
        """How the last connection, or attempt, ended."""
        self.welcomed = asyncio.Event()
        self._is_up = asyncio.Event()
        """Whether there is a connection, or will never be one again."""
        self._sessions = 0
        """How many sessions there have been: the gateway knows nothing of an earlier one."""
        self._connected_at = 0.0
        self._address = address
        self._token = token
        self._user_id = user_id
        self._backoff = backoff
        self._timeout = timeout
        self._transport = transport
        self._on_state = on_state
        self._on_warning = on_warning
        self._routes = Routes()
        self.feeds = Feeds()
        """All that is followed, or is to be."""
        self._new: dict[Feed, None] = {}
        self._asked: set[Feed] = set()
        """Those of the new ones that the gateway was asked for on this connection."""
        self._halves: list[list[Feed]] = []
        """What is asked for again, each with a message of its own, as something in it is refused."""
        self._paused_until = 0.0
        self._expiring = False
        self._changed = asyncio.Event()
        self._ended: Exception | None = None

    # -- what is followed ----------------------------------------------------------------------

    def conflicts(self, channels: tuple[str, ...], options: Options) -> bool:
        """Tell whether a channel is followed with another filter or rate."""
        naming = (feed for name in channels for feed in self.feeds.naming(name))
        return any(feed.options.conditions != options.conditions for feed in naming)

    def follow(self, feed: Feed) -> None:
        """Subscribe, now or once connected."""
        self.feeds.add(feed)
        self._new[feed] = None
        self._changed.set()

    def leave(self, feed: Feed) -> None:
        """Unsubscribe from what no other feed follows."""
        self.feeds.remove(feed)
        self._new.pop(feed, None)
        self._asked.discard(feed)
        self._routes.remove(feed)
        self.go_on()
        self._changed.set()

    def go_on(self) -> None:
        """Read on, as there is room again."""
        if self.connection is not None:
            self.connection.go_on()

    def end(self, why: Exception) -> None:
        """End every feed."""
        for feed in self.feeds:
            feed.end(why)
        self._ended = why
        self._is_up.set()
        self.become("closed")

    # -- connections, one after the other ------------------------------------------------------

    async def run(self) -> ClosedError:
        """Stay connected; returns why that is over for good."""
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            self.become("connecting")
            began = self.connection_count
            ended = self.last_disconnect = await self._connect()
            if not ended.reconnect:
                return ClosedError(ended.reason, ended.code)
            lived = loop.time() - self._connected_at if self.connection_count > began else 0.0
            if lived > self._backoff.bound(attempt):
                attempt = 0
            pause = self._backoff.pause(attempt) if ended.after is None else ended.after
            attempt += 1
            log.info("connection ended: %s (%s); next in %.1f s", ended.reason, ended.code, pause)
            self.become("reconnecting")
            await asyncio.sleep(pause)

    async def _connect(self) -> Disconnect:
        session = self.hello.get("session")
        since = self._routes.since(lambda _: True, bytes_max=_ADDRESS_BYTES_MAX) if session else None
        query = {"session": session, "since": since or None, "user_id": self._user_id}
        try:
            headers = await self.headers()
        except Exception as error:  # the application's own; it may succeed the next time
            log.exception("no token")
            return Disconnect(ABNORMAL, f"no token: {error!r}")
        url, transport = self._address.websocket(query), self._transport
        connection = await Connection.open(url, transport=transport, headers=headers, within=self._timeout)
        if isinstance(connection, Disconnect):
            return connection
        try:
            return await self._serve(connection)
        except asyncio.CancelledError:
            await connection.close(politely=True)
            raise
        finally:
            self.connection = None
            self._is_up.clear()
            await connection.close()

    async def _serve(self, connection: Connection) -> Disconnect:
        if not connection.hello["resumed"]:
            self._routes.begin_personal(anew=bool(self.hello))
            self._sessions += 1
        self.hello = connection.hello
        self.connection = connection
        self.connection_count += 1
        self._connected_at = asyncio.get_running_loop().time()
        self.welcomed.set()
        self._is_up.set()
        self.become("connected")
        keeping = asyncio.create_task(self._keep_up(connection))
        reading = asyncio.create_task(connection.read(self._routes.event, partial(self._take, connection)))
        try:
            await asyncio.wait({keeping, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            return Disconnect(ABNORMAL, repr(keeping.exception()))
        finally:
            keeping.cancel()
            reading.cancel()
            await asyncio.gather(keeping, reading, return_exceptions=True)

    def become(self, state: State) -> None:
        """Tell the application of a change."""
        if state != self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state)

    # -- what the gateway says -----------------------------------------------------------------

    def _take(self, connection: Connection, message: Message) -> bool:
        match message["type"]:
            case "gap":
                return self._routes.gap(message)
            case "subscribed":
                self._deny(message["denied"])
                self._routes.subscribed(message)
                connection.followed.update(message["channels"])
                for warning in message.get("warnings", []):
                    self._on_warning(warning)
            case "warning":
                self._on_warning(message["message"])
            case "unsubscribed":
                connection.followed.difference_update(message["channels"])
                self._routes.unsubscribed()
                self._deny(message.get("denied", []))
            case "token_expiring" if self._token is not None:
                self._expiring = True
                self._changed.set()
            case "pong":
                self._routes.pong(message)
            case "error" if "id" not in message:
                log.error("the gateway refused: %s: %s", message["code"], message["message"])
        return False

    # -- what is said to the gateway -----------------------------------------------------------

    async def _keep_up(self, connection: Connection) -> None:
        """Bring what the gateway knows of subscriptions to what the application wants, again and again."""
        # What a session brings back has been told when the answer to a ping comes.
        await connection.ask({"type": "ping"}, within=self._timeout)
        await self._restore(connection)
        self._asked.clear()
        self._halves.clear()
        self._paused_until = 0.0
        while True:
            self._changed.clear()
            if self._expiring:
                self._expiring = False
                await self._refresh_in_time()
            if asyncio.get_running_loop().time() >= self._paused_until:
                await self._unsubscribe(connection)
                halves, self._halves = self._halves, []
                for feeds in halves:
                    await self._subscribe(connection, [feed for feed in feeds if feed in self._new])
                await self._subscribe(connection, [feed for feed in self._new if feed not in self._asked])
            await self._changed.wait()

    async def _restore(self, connection: Connection) -> None:
        """Subscribe again to what the session did not bring back, each channel where it stood."""
        missing = {name: feed for name, feed in patterns(self._routes.feeds).items() if name not in connection.followed}
        if not missing:
            return
        message: Message = {
            "type": "subscribe",
            "channels": [{"channel": name, **feed.options.conditions} for name, feed in missing.items()],
        }
        concerned = set(missing.values())
        room = self.hello["limits"]["message_bytes_max"] - len(orjson.dumps(message)) - _ROOM_BYTES
        message["since"] = self._routes.since(
            lambda channel: any(feed.selects(channel) for feed in concerned), bytes_max=room
        )
        try:
            answer = await connection.ask(message, within=self._timeout)
        except RequestRefusedError as refused:
            self._refuse(concerned, refused)
        else:
            for denied in answer["denied"]:
                self._refuse([missing[denied["channel"]]], _denied(denied))

    async def _unsubscribe(self, connection: Connection) -> None:
        gone = sorted(connection.followed - patterns(self.feeds).keys())
        for names in (gone[at : at + _CHANNELS_MAX] for at in range(0, len(gone), _CHANNELS_MAX)):
            connection.followed.difference_update(names)
            message = {"type": "unsubscribe", "channels": names}
            await connection.send(message, partial(self._unsubscribed, connection, names))

    def _unsubscribed(self, connection: Connection, names: list[str], answer: Message | Exception) -> None:
        if isinstance(answer, RequestRefusedError) and answer.retry_after is not None:
            connection.followed.update(names)
            self._pause(answer.retry_after)

    async def _subscribe(self, connection: Connection, feeds: Iterable[Feed]) -> None:
        """Ask for feeds, with as few messages as possible."""
        wanted = []
        for feed in feeds:
            self._asked.add(feed)
            if all(name in OWN for name in feed.patterns):
                self._begin([feed], {"positions": {}, "recovered": {}, "denied": []})
            else:
                wanted.append(feed)
        room = connection.hello["limits"]["message_bytes_max"] - _ROOM_BYTES
        for batch in batches(wanted, bytes_max=room):
            message: Message = {"type": "subscribe", "channels": list(batch.requests.values())}
            await connection.send(message, partial(self._confirm, batch.feeds))

    def _confirm(self, feeds: list[Feed], answer: Message | Exception) -> None:
        if isinstance(answer, NotConnectedError):
            return  # they will be asked for again
        left = [feed for feed in feeds if feed in self._new]
        if len(left) < len(feeds):
            self._changed.set()  # some were let go of meanwhile, and the gateway is to know
        if isinstance(answer, RequestRefusedError) and answer.retry_after is not None:
            self._asked.difference_update(feeds)
            self._pause(answer.retry_after)
        elif isinstance(answer, Exception) and len(feeds) == 1:
            self._refuse(left, answer)
        elif isinstance(answer, Exception):
            self._halve(left)
        else:
            self._begin(left, answer)

    def _halve(self, feeds: list[Feed]) -> None:
        """A message is served whole or not at all: ask for halves, to find the feed that is refused."""
        half = (len(feeds) + 1) // 2
        self._halves += [part for part in (feeds[:half], feeds[half:]) if part]
        self._changed.set()

    def _begin(self, feeds: Iterable[Feed], answer: Message) -> None:
        denials = {one["channel"]: one for one in answer["denied"]}
        begun = []
        for feed in feeds:
            denied = [denials[name] for name in feed.patterns if name in denials]
            if denied:
                self._refuse([feed], _denied(denied[0]))
                continue
            del self._new[feed]
            self._asked.discard(feed)
            self._routes.add(feed)
            begun.append(feed)
        self._routes.subscribed(answer, begun)
        for feed in begun:
            feed.confirmed.set()

    def _pause(self, seconds: float) -> None:
        """Ask for nothing more until the gateway takes it."""
        loop = asyncio.get_running_loop()
        self._paused_until = max(self._paused_until, loop.time() + seconds)
        loop.call_at(self._paused_until + _LATER_SECONDS, self._changed.set)

    def _deny(self, denied: Iterable[Message]) -> None:
        """End what follows channels that are not served to this client any more."""
        for one in denied:
            self._refuse(self._routes.feeds.naming(one["channel"]), _denied(one))

    def _refuse(self, feeds: Iterable[Feed], why: Exception) -> None:
        for feed in feeds:
            feed.end(why)
            self.leave(feed)

    async def ask(self, message: Message) -> Message:
        """Ask the gateway something.

        Raises:
            ClientError: There is no connection, or the gateway refuses.
            TimeoutError: No answer came in time.
        """
        if self.connection is None:
            raise NotConnectedError("not connected" if self.last_disconnect is None else self.last_disconnect.reason)
        return await self.connection.ask(message, within=self._timeout)

    async def ask_once(self, message: Message, *, within: float) -> Message:
        """Ask for something that the gateway does once, however often it is asked.

        If the connection is lost before the answer, it is asked again on the next one, unless the gateway has
        forgotten this client, and with it what was asked.

        Raises:
            ClientError: There was no connection in time, or none any more, or the gateway refuses.
            TimeoutError: No answer came in time.
        """
        asked_in = None
        try:
            async with asyncio.timeout(within):
                while True:
                    if self.state != "closed":
                        await self._is_up.wait()
                    connection = self.connection
                    if connection is None or self.state == "closed":
                        ended = self._ended
                        raise ended if isinstance(ended, ClosedError) else ClosedError("this client was closed")
                    if asked_in not in {None, self._sessions}:
                        raise NotConnectedError(
                            "the connection was lost before the answer, and the gateway restarted or forgot this client: "
                            "what was asked may or may not have been done"
                        )
                    asked_in = self._sessions
                    try:
                        return await connection.ask(message, within=within)
                    except NotConnectedError:
                        await connection.closed.wait()
        except TimeoutError:
            if asked_in is None or self.connection is None:
                why = self.last_disconnect.reason if self.last_disconnect else "no answer"
                raise NotConnectedError(f"no connection in {within:g} s: {why}") from None
            raise

    async def catch_up(self, feed: Feed, newest_now: Callable[[], Awaitable[Mapping[str, Position]]]) -> None:
        """Wait until all has come that the gateway holds now of a feed's channels, also on a later connection.

        `newest_now` asks for the newest positions. Raises what it does, and `ClientError` if there will be no connection.
        """
        newest = await newest_now()
        pause = _CATCH_UP_SECONDS[0]
        while not await self._has_come(feed, newest):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _CATCH_UP_SECONDS[1])
            now = await newest_now()  # a source may have ended, or a channel be gone
            newest = {name: _still_named(at, now[name]) for name, at in newest.items() if name in now}

    async def _has_come(self, feed: Feed, newest: Mapping[str, Position]) -> bool:
        try:
            positions = Pong.read(await self.ask({"type": "ping"}), 0.0).positions
        except NotConnectedError:
            if self.state == "closed":
                raise
            return False  # the next connection goes on where this one stood
        # Until the gateway has confirmed the subscription on a new connection, it gives no position.
        return (feed.starts.keys() & newest.keys()) <= positions.keys() and has_reached(positions, newest)

    # -- who this is ---------------------------------------------------------------------------

    async def headers(self) -> dict[str, str]:
        """Return the headers that say who this is."""
        token = await self._fresh_token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    async def refresh_token(self) -> None:
        """Give the gateway a fresh token on the open connection; raises what `ask` does."""
        token = await self._fresh_token()
        if token is not None:
            await self.ask({"type": "auth", "token": token})

    async def _refresh_in_time(self) -> None:
        try:
            await self.refresh_token()
        except (ClientError, TimeoutError) as error:
            log.warning("the gateway did not take a fresh token: %s", error)

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        return await token if inspect.isawaitable(token) else token


def _denied(denied: Message) -> RequestRefusedError:
    status = 401 if denied["code"] == "unauthorized" else 403
    return RequestRefusedError(denied["code"], f"{denied['channel']}: {denied['message']}", status=status)


def has_reached(positions: Mapping[str, Position], newest: Mapping[str, Position]) -> bool:
    """Return whether each of `newest` is at or before the channel's position in each source, if it has one."""
    return all(
        positions[name].offsets.get(epoch, -1) >= offset
        for name, at in newest.items()
        if name in positions
        for epoch, offset in at.offsets.items()
    )


def _still_named(at: Position, now: Position) -> Position:
    """Return a position without the sources that have ended; if all have, the present one."""
    offsets = {epoch: offset for epoch, offset in at.offsets.items() if epoch in now.offsets}
    return Position.of(offsets, next(iter(offsets))) if offsets else now
