"""Keeps one connection up, and on it what the application follows."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Literal

import orjson

from neurograph_client.address import Address
from neurograph_client.backoff import Backoff
from neurograph_client.connection import ABNORMAL, Connection, Disconnect
from neurograph_client.errors import ClientError, ClosedError, NotConnectedError, RequestRefusedError
from neurograph_client.feed import Feed
from neurograph_client.routes import OWN, Message, Routes, patterns


State = Literal["new", "connecting", "connected", "reconnecting", "closed"]
Token = str | Callable[[], str | Awaitable[str]]

_ADDRESS_BYTES_MAX = 4000
_ROOM_BYTES = 256

log = logging.getLogger("neurograph_client")


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
        on_state: Callable[[State], object] | None,
    ) -> None:
        self.state: State = "new"
        self.hello: Message = {}
        self.connection: Connection | None = None
        self.connection_count = 0
        self.last_disconnect: Disconnect | None = None
        """How the last connection, or attempt, ended."""
        self.welcomed = asyncio.Event()
        self._connected_at = 0.0
        self._address = address
        self._token = token
        self._user_id = user_id
        self._backoff = backoff
        self._timeout = timeout
        self._on_state = on_state
        self._routes = Routes()
        self._new: list[Feed] = []
        self._asked: set[Feed] = set()
        """Those of the new ones that the gateway was asked for on this connection."""
        self._expiring = False
        self._changed = asyncio.Event()

    # -- what is followed ----------------------------------------------------------------------

    @property
    def feeds(self) -> list[Feed]:
        """All that is followed, or is to be."""
        return [*self._routes.feeds, *self._new]

    def follow(self, feed: Feed) -> None:
        """Subscribe, now or once connected."""
        self._new.append(feed)
        self._changed.set()

    def leave(self, feed: Feed) -> None:
        """Unsubscribe from what no other feed follows."""
        if feed in self._new:
            self._new.remove(feed)
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
        connection = await Connection.open(self._address.websocket(query), headers=headers, within=self._timeout)
        if isinstance(connection, Disconnect):
            return connection
        try:
            return await self._serve(connection)
        except asyncio.CancelledError:
            await connection.close(politely=True)
            raise
        finally:
            self.connection = None
            await connection.close()

    async def _serve(self, connection: Connection) -> Disconnect:
        if not connection.hello["resumed"]:
            self._routes.begin_personal(anew=bool(self.hello))
        self.hello = connection.hello
        self.connection = connection
        self.connection_count += 1
        self._connected_at = asyncio.get_running_loop().time()
        self.welcomed.set()
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
            case "unsubscribed":
                connection.followed.difference_update(message["channels"])
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
        while True:
            self._changed.clear()
            for feed in [feed for feed in self._new if feed not in self._asked]:
                self._asked.add(feed)
                await self._subscribe(connection, feed)
            gone = connection.followed - patterns(self.feeds).keys()
            if gone:
                connection.followed -= gone
                message = {"type": "unsubscribe", "channels": sorted(gone)}
                await connection.send(message, lambda _: None)
            if self._expiring:
                self._expiring = False
                await self._refresh_in_time()
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

    async def _subscribe(self, connection: Connection, feed: Feed) -> None:
        names = [name for name in feed.patterns if name not in OWN]
        confirm = partial(self._confirm, feed)
        if not names:
            confirm({"positions": {}, "recovered": {}, "denied": []})
            return
        options = feed.options
        message = {"type": "subscribe", "channels": names, **options.conditions, **options.start}
        await connection.send(message, confirm)

    def _confirm(self, feed: Feed, answer: Message | Exception) -> None:
        if feed not in self._new:
            self._changed.set()  # it was let go of meanwhile, and the gateway is to know
        elif isinstance(answer, NotConnectedError):
            return  # it will be asked for again
        elif isinstance(answer, RequestRefusedError) and answer.retry_after is not None:
            asyncio.get_running_loop().call_later(answer.retry_after, self._ask_again, feed)
        elif isinstance(answer, Exception):
            self._refuse([feed], answer)
        elif answer["denied"]:
            self._refuse([feed], _denied(answer["denied"][0]))
        else:
            self._new.remove(feed)
            self._routes.add(feed)
            self._routes.subscribed(answer, feed)
            feed.confirmed.set()

    def _ask_again(self, feed: Feed) -> None:
        self._asked.discard(feed)
        self._changed.set()

    def _deny(self, denied: Iterable[Message]) -> None:
        """End what follows channels that are not served to this client any more."""
        for one in denied:
            feeds = [feed for feed in self._routes.feeds if one["channel"] in feed.patterns]
            self._refuse(feeds, _denied(one))

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
