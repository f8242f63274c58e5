"""A model in Python of the engine's data and of the Lua scripts in gateway/cluster/lua.

`tests/unit/cluster/test_scripts.py` compares it with the scripts in Redis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.protocol.channels import EVERYONE


Fields = dict[str, bytes]
Place = tuple[int, int]
"""The id of a stream's entry."""

_OTHER = "-1"


class Stale(Exception):
    """The data belongs to another epoch than the one that the caller expects."""


class Stream:
    """A Redis stream that keeps its newest entries."""

    def __init__(self) -> None:
        self.entries: list[tuple[Place, Fields]] = []
        self.last: Place = (0, 0)

    def append(self, clock_ms: int, fields: Fields, *, most: int) -> None:
        time, number = self.last
        self.last = (clock_ms, 0) if clock_ms > time else (time, number + 1)
        self.entries.append((self.last, fields))
        del self.entries[:-most]

    def behind(self, after: Place, most: int) -> list[tuple[Place, Fields]]:
        if after >= self.last:
            return []
        return [one for one in self.entries if one[0] > after][:most]


class Data:
    """The keys of one cluster, by kind."""

    def __init__(self) -> None:
        self.engine: dict[str, str] = {}
        self.events = 0
        self.live_max = self.inbox_max = 10_000
        """The limits on the events kept for connected gateways, over all channels, and on the entries in one inbox."""
        self.channels: dict[str, int] = {}
        """When each channel was last published on."""
        self.reports: dict[str, tuple[bytes, int]] = {}
        """Each gateway's report, and when it expires."""
        self.streams: dict[str, Stream] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.users: dict[str, dict[str, None]] = {}
        self.once: dict[str, tuple[str, str, int]] = {}
        self.lease: tuple[str, int] | None = None
        """The gateway that has the lease, and when the lease expires."""
        self.fence = 0
        """How often the lease was taken: the fence of the newest lease."""
        self.now_ms = self.clock_ms = 0
        """The simulated time, and the server's own clock, from which it makes the ids of streams' entries."""
        self.on_append: Callable[[str], object] = lambda name: None
        self.on_numbered: Callable[[str, str, int, bytes, str], object] = lambda *event: None
        """Called with each event that is numbered: the channel, or the client of a personal message; the source; the
        offset; the event; and the lease under which the source began, if any."""

    def copy(self) -> Data:
        other = copy.copy(self)
        for name in ("engine", "reports", "secrets", "once", "channels"):
            setattr(other, name, dict(getattr(self, name)))
        other.sessions = {client: dict(fields) for client, fields in self.sessions.items()}
        other.users = {user: dict(clients) for user, clients in self.users.items()}
        other.streams = {}
        for key, stream in self.streams.items():
            twin = other.streams[key] = Stream()
            twin.entries, twin.last = list(stream.entries), stream.last
        return other

    def has(self, name: str, epoch: str, offset: int) -> bool:
        """Return whether this data has numbered an event of a channel or client."""
        streams = [self.streams.get(f"{kind}:{name}") for kind in ("channel", "personal")]
        found = {"epoch": epoch.encode(), "offset": str(offset).encode()}
        return any(found.items() <= fields.items() for one in streams if one for _, fields in one.entries)

    def run(self, script: str, epoch: str, gateway: str, arguments: Sequence[Any]) -> Any:
        """Run a script. Raises Stale."""
        if self.engine.get("epoch") != epoch:
            raise Stale(f"STALE the data of epoch {epoch} is gone")
        return getattr(self, f"_{script}")(epoch, gateway, *arguments)

    def hello(self, epoch: str, server: str) -> str:
        found = self.engine.get("epoch")
        if found is None or self.engine["server"] != server:
            found = epoch
        self.engine = {"epoch": found, "server": server}
        return found

    def _report(self, epoch: str, gateway: str, report: bytes, ttl_ms: int, heard: bytes) -> Any:
        known = int(self._is_there(gateway))
        self.reports[gateway] = (report, self.now_ms + int(ttl_ms))
        self.reports = {one: found for one, found in self.reports.items() if found[1] > self.now_ms}
        return [known, [found[0] for found in self.reports.values()]]

    def _lease(self, epoch: str, gateway: str, ttl_ms: int, anew: int) -> list[Any]:
        if self.lease is not None and self.lease[1] <= self.now_ms:
            self.lease = None
        held = None if self.lease is None else self.lease[0]
        if held not in {None, gateway}:
            return [b"%d" % self.fence, 0]
        self.lease = gateway, self.now_ms + int(ttl_ms)
        self.fence += held is None or bool(anew)
        return [b"%d" % self.fence, 1]

    def _leave(self, epoch: str, gateway: str) -> int:
        if self.lease is not None and self.lease[0] == gateway:
            self.lease = None
        self.reports.pop(gateway, None)
        self.streams.pop(f"inbox:{gateway}", None)
        return 0

    def _save(
        self,
        epoch: str,
        gateway: str,
        client: str,
        ttl_ms: int,
        identity: str,
        user: str,
        kept: bytes,
        connected: int,
        *secrets: str,
    ) -> Any:
        before = self._session(client) or {}
        other = before.get("owner") not in {None, gateway}
        if other and before["claimed"] == epoch and not (connected and not before["connected"]):
            return [0]
        self.sessions[client] = {
            **before,
            "owner": gateway,
            "claimed": epoch,
            "identity": identity,
            "user": user,
            "kept": kept,
            "connected": connected,
            "secrets": secrets,
            "until": self.now_ms + int(ttl_ms),
        }
        if other:
            self._send(before["owner"], {"kind": b"taken", "client": client.encode()})
        for secret in before.get("secrets", ()):
            self.secrets.pop(secret, None)
        self.secrets.update(dict.fromkeys(secrets, client))
        if before.get("user") and before["user"] != user:
            self.users.get(before["user"], {}).pop(client, None)
        if user:
            self.users.setdefault(user, {})[client] = None
        return [1, before.get("epoch", "").encode(), str(before.get("offset", "")).encode()]

    def _take(self, epoch: str, gateway: str, secret: str, identity: str, is_here: int) -> Any:
        client = self.secrets.get(secret)
        found = None if client is None else self._session(client)
        if client is None or found is None or found["identity"] not in {"", identity}:
            return [0]
        if found["owner"] == gateway and is_here:
            return [1]
        before = found["owner"]
        found.update(owner=gateway, claimed=epoch, connected=1)
        if before != gateway:
            self._send(before, {"kind": b"taken", "client": client.encode()})
        entries = self._stream(f"personal:{client}").entries
        parts = [
            [b"0-0", [part for pair in fields.items() for part in (pair[0].encode(), pair[1])]] for _, fields in entries
        ]
        return [2, client.encode(), found["kept"], parts]

    def _forget(self, epoch: str, gateway: str, client: str) -> int:
        found = self._session(client)
        if found is None or found["owner"] != gateway:
            return 0
        for secret in found["secrets"]:
            self.secrets.pop(secret, None)
        del self.sessions[client]
        self.streams.pop(f"personal:{client}", None)
        self.users.get(found["user"], {}).pop(client, None)
        return 1

    def _kick(self, epoch: str, gateway: str, client: str) -> int:
        found = self._session(client)
        if found is None or found["owner"] == gateway or not found["connected"]:
            return 0
        return int(self._send(found["owner"], {"kind": b"kick", "client": client.encode()}))

    def _personal(
        self,
        epoch: str,
        gateway: str,
        most: int,
        event: bytes,
        client: str,
        user: str,
        key: str,
        content: str,
        ttl_ms: int,
    ) -> int:
        before = self._answered(key, content)
        if before is not None:
            return int(before)
        count = 0
        for one in [client] if client else sorted(self.users.get(user, {})):
            found = self._session(one)
            if found is None:
                continue
            offset = found["offset"] + 1 if found.get("epoch") == epoch else 1
            found.update(epoch=epoch, offset=offset)
            fields = {"epoch": epoch.encode(), "offset": str(offset).encode(), "event": event}
            self._add(f"personal:{one}", fields, int(most))
            self._send(found["owner"], {"kind": b"personal", "client": one.encode(), **fields})
            self.on_numbered(one, epoch, offset, event, "")
            count += 1
        if count:
            self._keep(key, content, str(count), ttl_ms)
        return count

    def _append(
        self,
        epoch: str,
        gateway: str,
        kept_ms: int,
        channels_max: int,
        silent_ms: int,
        key: str,
        content: str,
        ttl_ms: int,
        rest: str,
        fence: str | int,
        *parts: Any,
    ) -> Any:
        before = self._answered(key, content)
        if before is not None:
            return [b"other"] if before == _OTHER else [b"known", before.encode()]
        if fence != "" and not self._is_newest(int(fence)):
            return [b"fenced"]
        events = list(zip(*(iter(parts),) * 5, strict=True))
        channels = {channel for channel, *_ in events} - {EVERYONE}
        room = int(channels_max) - len(self.channels.keys() | channels)
        silent = sum(at <= self.now_ms - int(silent_ms) for at in self.channels.values())
        if room + silent < 0:
            return [b"full"]
        numbered = [self._number(epoch, str(fence), *event) for event in events]
        for channel in sorted(self.channels, key=lambda name: (self.channels[name], name))[: max(-room, 0)]:
            del self.channels[channel]
            self.streams.pop(f"channel:{channel}", None)
        source, offset = numbered[0]
        self._keep(key, content, f"{source}:{offset}:{rest}", ttl_ms)
        return [b"new", *(part for source, offset in numbered for part in (source.encode(), offset))]

    def _is_newest(self, fence: int) -> bool:
        return fence == self.fence

    def _number(
        self, epoch: str, fence: str, channel: str, most: int, source: str, skipped: int, event: bytes
    ) -> tuple[str, int]:
        """Append one event; return its source and offset."""
        newest, offset, held, begins = self._stream(f"channel:{channel}").entries[-1:], 1, fence, fence != ""
        if newest and self._goes_on(newest[0][1], epoch, fence):
            last = {name: value.decode() for name, value in newest[0][1].items()}
            source, offset, held, begins = last["epoch"], int(last["offset"]) + 1, last["fence"], False
        offset += int(skipped)
        numbers = {"engine": epoch, "epoch": source, "offset": str(offset), "fence": held, "begins": str(int(begins))}
        fields = {**{name: text.encode() for name, text in numbers.items()}, "event": event}
        self._add(f"channel:{channel}", fields, int(most))
        self.events += 1
        self._add("events", {"number": b"%d" % self.events, "channel": channel.encode(), **fields}, self.live_max)
        if channel != EVERYONE:
            self.channels[channel] = self.now_ms
        self.on_numbered(channel, source, offset, event, f"{epoch}/{held}" if held else "")
        return source, offset

    def _goes_on(self, last: Fields, epoch: str, fence: str) -> bool:
        """Return whether the next event of a channel continues the source of its last one."""
        return last["engine"] == epoch.encode() and fence in {"", last["fence"].decode()}

    # -- shared by several scripts -------------------------------------------------------------

    def _session(self, client: str) -> dict[str, Any] | None:
        found = self.sessions.get(client)
        return found if found is not None and found["until"] > self.now_ms else None

    def _is_there(self, gateway: str) -> bool:
        return gateway in self.reports and self.reports[gateway][1] > self.now_ms

    def _send(self, gateway: str, fields: Fields) -> bool:
        if self._is_there(gateway):
            self._add(f"inbox:{gateway}", fields, self.inbox_max)
            return True
        return False

    def _stream(self, key: str) -> Stream:
        return self.streams.setdefault(key, Stream())

    def _add(self, key: str, fields: Fields, most: int) -> None:
        self._stream(key).append(self.clock_ms, fields, most=most)
        self.on_append(key)

    def _answered(self, key: str, content: str) -> str | None:
        answer, asked, until = self.once.get(key, ("", "", 0))
        if not key or until <= self.now_ms:
            return None
        return answer if asked == content else _OTHER

    def _keep(self, key: str, content: str, answer: str, ttl_ms: int) -> None:
        if key:
            self.once[key] = answer, content, self.now_ms + int(ttl_ms)
