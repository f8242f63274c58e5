"""Events of clients: to a channel, a client, a user, or everyone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Raw

from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_name
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import Address, Event
from gateway.core.protocol.messages import Broadcast, BroadcastResult, Publish
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.idempotency import IdempotencyKeys
from gateway.core.sessions.permissions import Action, Identity
from gateway.core.sessions.session import Session


_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class Bus(Protocol):
    """Publishes clients' events on the bus."""

    def carries(self, channel: str, /) -> bool:
        """Return whether events on a channel are published there."""

    def reaches(self, channel: str, /) -> bool:
        """Return whether a process gets events on a channel."""

    def send(self, channel: str, payload: bytes, /, *, mandatory: bool) -> bool:
        """Publish an event; return whether a process gets it. If none does, a `mandatory` one is not published."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends an event: `client_id` is empty over HTTP."""

    identity: Identity
    client_id: str = ""
    request_id: str | None = None
    """Set if the client waits for an answer."""


class Broadcaster:
    """Sends clients' events in the process that reads the bus; with an idempotency key, each once."""

    def __init__(self, hub: Hub, pipeline: Pipeline) -> None:
        self.bus: Bus | None = None
        """Where clients' events are published, too."""
        self.deliver: Callable[[Session, Event], object] = hub.deliver_personal
        """Delivers a personal message from the bus."""
        self._hub = hub
        self._pipeline = pipeline
        self._keys = IdempotencyKeys()
        pipeline.ingest.on_personal = self._on_personal

    def send(self, message: Broadcast, sender: Sender, *, now_ns: int) -> BroadcastResult:
        """Send an event to exactly one target.
        Raises RequestError: the client is unknown, there is not exactly one target, the sender lacks the permission,
        the event is not valid, or it is mandatory and nobody would get it."""
        if message.idempotency_key is None:
            return self._send(message, sender, now_ns)
        result = self._keys.result(message, sender.identity, now_ns=now_ns)
        if result is None:
            result = self._send(message, sender, now_ns)
            self._keys.keep(message, sender.identity, result, now_ns=now_ns)
        return result

    def publish(self, message: Publish, session: Session, *, now_ns: int) -> BroadcastResult:
        """Send an event that came over a WebSocket; raises what `send` does."""
        return self.send(as_broadcast(message), sender_of(message, session), now_ns=now_ns)

    def event(self, message: Broadcast, sender: Sender, *, now_ns: int) -> Event:
        """Return the event of a message, for whoever sends it to all gateways.
        Raises RequestError: as `send`; but its client may be unknown, and nobody may get it."""
        self._check_target(message, sender)
        name = message.channel if message.channel is not None else EVERYONE if message.everyone else PERSONAL
        return self._event(name, message, sender, now_ns)

    def reaches(self, channel: str) -> bool | None:
        """Return whether a process on the bus gets events on a channel; None if they are not published there."""
        return self.bus.reaches(channel) if self.bus is not None and self.bus.carries(channel) else None

    def send_on_bus(self, event: Event, sender: Sender) -> None:
        """Publish an event on the bus that is in its channel already, if the channel is published there."""
        if self.bus is not None and self.bus.carries(event.channel):
            self.bus.send(event.channel, _bus_payload(event, sender), mandatory=False)

    def _check_target(self, message: Broadcast, sender: Sender) -> None:
        targets = [message.channel, message.client_id, message.user_id, message.everyone or None]
        count = sum(target is not None for target in targets)
        if count != 1:
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"set exactly one of `channel`, `client_id`, `user_id`, `everyone`; {count} are set",
            )
        channel = message.channel
        if channel is not None:
            if not is_name(channel):
                raise RequestError(ErrorCode.INVALID_CHANNEL, f"{channel[:128]!r} is not a valid channel name")
            sender.identity.require(Action.PUBLISH, channel)
        else:
            sender.identity.require(Action.PUBLISH, EVERYONE if message.everyone else PERSONAL)

    def _send(self, message: Broadcast, sender: Sender, now_ns: int) -> BroadcastResult:
        self._check_target(message, sender)
        if message.channel is not None:
            return self._to_channel(message.channel, message, sender, now_ns)
        if message.everyone:
            return self._to_channel(EVERYONE, message, sender, now_ns)
        return self._to_sessions(message, sender, now_ns)

    def _to_sessions(self, message: Broadcast, sender: Sender, now_ns: int) -> BroadcastResult:
        sessions = self._recipients(message)
        if not sessions and message.user_id is None:
            raise unknown_client(message)
        self._deliver(sessions, self._event(PERSONAL, message, sender, now_ns))
        return BroadcastResult(len(sessions), PERSONAL, None)

    def _recipients(self, to: Broadcast | Address) -> Sequence[Session]:
        store = self._hub.store
        if to.user_id is not None:
            return store.of_user(to.user_id)
        session = store.of_client(to.client_id or "")
        return [] if session is None else [session]

    def _deliver(self, sessions: Sequence[Session], event: Event) -> None:
        for session in sessions:
            self._hub.deliver_personal(session, event)

    def _on_personal(self, address: Address, event: Event) -> None:
        """Deliver a personal message from the bus, as far as its client has a session."""
        sessions = self._recipients(address)
        self._hub.counts.personal[bool(sessions)] += 1
        for session in sessions:
            self.deliver(session, event)

    def _to_channel(self, name: str, message: Broadcast, sender: Sender, now_ns: int) -> BroadcastResult:
        event = self._event(name, message, sender, now_ns)
        logs, recipients, reaches = self._pipeline.logs, self._hub.subscribers(name), None
        if self.bus is not None and self.bus.carries(name):
            reaches = self.bus.send(name, _bus_payload(event, sender), mandatory=message.mandatory)
        if message.mandatory and not (recipients if reaches is None else reaches):
            raise no_subscribers(name, on_bus=reaches is not None)
        self._hub.counts.published[reaches] += 1
        logs.append([event])
        return BroadcastResult(recipients, name, logs.by_name[name].position, reaches)

    def _event(self, channel: str, message: Broadcast, sender: Sender, now_ns: int) -> Event:
        try:
            event = self._pipeline.ingest.read_event(channel, bytes(message.event), now_ns=now_ns)
        except ValueError as error:
            raise RequestError(ErrorCode.INVALID_EVENT, str(error)) from error
        if channel == PERSONAL:
            return event
        if not self._pipeline.logs.admit(channel):
            raise RequestError(
                ErrorCode.UNAVAILABLE,
                f"channel {channel!r} cannot open: as many as `ingest.channels_max` allows are open",
            )
        return _with_reply_to(event, sender)


def as_broadcast(message: Publish) -> Broadcast:
    return Broadcast(
        event=message.event,
        channel=message.channel,
        idempotency_key=message.idempotency_key,
        mandatory=message.mandatory,
    )


def sender_of(message: Publish, session: Session) -> Sender:
    return Sender(session.identity, session.client_id, message.request_id)


def unknown_client(to: Broadcast) -> RequestError:
    """Return the error of an event for a client that is not known."""
    reason = f"client {to.client_id!r} is not connected, and has no session to resume"
    return RequestError(ErrorCode.UNKNOWN_CLIENT, reason)


def no_subscribers(channel: str, *, on_bus: bool) -> RequestError:
    """Return the error of a mandatory event that nobody would get."""
    if on_bus:
        reason = f"no process on the bus subscribes to {channel!r} at `bus.publish`, or its queue is full"
    else:
        published = "it is not published on the bus (`bus.publish`, `bus.publish_channels`)"
        reason = f"no client subscribes to {channel!r}, and {published}"
    return RequestError(ErrorCode.NO_SUBSCRIBERS, reason)


def _with_reply_to(event: Event, sender: Sender) -> Event:
    """Return an event that says whom to answer, if its sender waits for that."""
    if sender.request_id is None:
        return event
    members = _decode_members(b"{%b}" % event.fields)
    reply_to = {"client_id": sender.client_id, "request_id": sender.request_id}
    members["reply_to"] = Raw(msgspec.json.encode(reply_to))
    return msgspec.structs.replace(event, fields=msgspec.json.encode(members)[1:-1])


def _bus_payload(event: Event, sender: Sender) -> bytes:
    """Return an event as processes on the bus get it: with who sent it, whatever the client said of that."""
    members = _decode_members(b"{%b}" % event.fields)
    for name, value in (("client_id", sender.client_id or None), ("user_id", sender.identity.user_id)):
        members[name] = Raw(msgspec.json.encode(value))
    if sender.request_id is None:
        members.pop("reply_to", None)
    members.setdefault("event_type", Raw(b'"message"'))
    return msgspec.json.encode(members)
