"""The clients of this gateway in the engine, for the others; and those of the others."""

import asyncio
from collections.abc import Iterable, Sequence

from gateway.cluster.engine import Engine
from gateway.cluster.scripts import script
from gateway.core.cluster import presence
from gateway.core.cluster.mirror import Changes, Members, Mirror
from gateway.core.cluster.presence import PresentClient
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.session import Session


_WILDCARDS = script("wildcards", "live")
_PRESENCE = script("presence", "live")
_ADMIT = script("admit", "live")
_WILDCARDS_MAX = 10_000
_CLIENTS_MAX = 100_000
_SETTLED_SECONDS = 10.0
"""After so long, a client that was admitted is connected, or never will be."""
_TOGETHER = 200
"""Clients whose changes are written with one command."""


class ClusterClients:
    """Keeps two sets of the engine up to date: clients by pattern, and by user.

    They are lost with the reports of this gateway, so a gateway that is killed has no clients any more."""

    def __init__(self, engine: Engine, hub: Hub, *, ttl_seconds: float) -> None:
        self._engine = engine
        self._hub = hub
        self._ttl_ms = round(ttl_seconds * 1000)
        self._changed = asyncio.Event()
        connected = lambda: list(hub.sessions)  # noqa: E731
        self._users = Mirror(self._user_of, connected)
        self._mirrors = {"presence": Mirror(self._present, connected), "users": self._users}

    def lose(self) -> None:
        """Write all clients again: the engine may have lost them."""
        for mirror in self._mirrors.values():
            mirror.lose()
        self._changed.set()

    async def keep_written(self) -> None:
        """Write what changes, whenever the engine is up."""
        await self._engine.keep(self._changed, self._write_all)

    async def _write_all(self) -> None:
        for kind, mirror in self._mirrors.items():
            while self._engine.up and (changes := mirror.take(_TOGETHER)):
                await self._write(self._engine.key(kind, self._engine.gateway), changes)

    async def admit(self, user_id: str, client_id: str, *, limit: int) -> bool:
        """Count a client as its user's, unless the user has so many others, on all gateways.
        Raises EngineUnavailable."""
        self._users.note_written(client_id, presence.user_member(user_id, client_id))
        try:
            admitted = await self._engine.run(_ADMIT, presence.user_key(user_id), client_id, limit, self._ttl_ms)
        finally:
            # If it does not connect after all, this removes it again.
            asyncio.get_running_loop().call_later(_SETTLED_SECONDS, self._note_user, client_id)
        return bool(admitted)

    async def present(self, channel: str) -> Sequence[PresentClient]:
        """Return the clients of all gateways that are subscribed to a channel. Raises EngineUnavailable."""
        wildcards = await self._engine.run(_WILDCARDS, _WILDCARDS_MAX)
        keys = presence.selecting(channel, (one.decode() for one in _texts(wildcards)))
        found = _texts(await self._engine.run(_PRESENCE, _CLIENTS_MAX, *keys))
        own = [PresentClient(one.client_id, one.user_id) for one in self._hub.presence(channel)]
        return presence.merged(channel, own, found)

    def note(self, session: Session) -> None:
        """Note that a client has changed."""
        for mirror in self._mirrors.values():
            mirror.note(session.client_id)
        self._changed.set()

    def _note_user(self, client_id: str) -> None:
        self._users.note(client_id)
        self._changed.set()

    def _present(self, client_id: str) -> Members:
        session = self._hub.sessions.get(client_id)
        if session is None:
            return frozenset()
        return presence.members(client_id, session.user_id, session.subscriptions.values())

    def _user_of(self, client_id: str) -> Members:
        session = self._hub.sessions.get(client_id)
        if session is None or session.user_id is None:
            return frozenset()
        return frozenset({presence.user_member(session.user_id, client_id)})

    async def _write(self, key: str, changes: Changes) -> None:
        replies = []
        if changes.clear:
            replies.append(self._engine.command("DEL", key))
        if changes.remove:
            replies.append(self._engine.command("ZREM", key, *changes.remove))
        if changes.add:
            scored = [part for member in changes.add for part in (0, member)]
            replies.append(self._engine.command("ZADD", key, *scored))
            replies.append(self._engine.command("PEXPIRE", key, self._ttl_ms))
        await asyncio.gather(*replies)


def _texts(reply: object) -> Iterable[bytes]:
    return [one for one in reply if isinstance(one, bytes)] if isinstance(reply, list) else []
