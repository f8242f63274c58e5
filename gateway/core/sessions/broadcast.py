"""Events of clients: to a channel, a client, a user, or everyone."""

from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_name
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Broadcast, BroadcastResult, Publish
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.idempotency import IdempotencyKeys
from gateway.core.sessions.permissions import Action, Identity


class Broadcaster:
    """Sends clients' events in the process that reads the bus; with an idempotency key, each once."""

    def __init__(self, hub: Hub, pipeline: Pipeline) -> None:
        self._hub = hub
        self._pipeline = pipeline
        self._keys = IdempotencyKeys()

    def send(self, message: Broadcast, by: Identity, *, now_ns: int) -> BroadcastResult:
        """Send an event to exactly one target; raises what `broadcast` does."""
        if message.idempotency_key is None:
            return broadcast(self._hub, self._pipeline, message, by, now_ns=now_ns)
        result = self._keys.result(message, by, now_ns=now_ns)
        if result is None:
            result = broadcast(self._hub, self._pipeline, message, by, now_ns=now_ns)
            self._keys.keep(message, by, result, now_ns=now_ns)
        return result

    def publish(self, message: Publish, by: Identity, *, now_ns: int) -> BroadcastResult:
        """Send an event that came over a WebSocket; raises what `broadcast` does."""
        event = Broadcast(event=message.event, channel=message.channel, idempotency_key=message.idempotency_key)
        return self.send(event, by, now_ns=now_ns)


def broadcast(hub: Hub, pipeline: Pipeline, message: Broadcast, by: Identity, *, now_ns: int) -> BroadcastResult:
    """Send an event to exactly one target.
    Raises RequestError: the client is unknown, there is not exactly one target, `by` lacks the permission, or the event
    is not valid."""
    targets = [message.channel, message.client_id, message.user_id, message.everyone or None]
    count = sum(target is not None for target in targets)
    if count != 1:
        raise RequestError(
            ErrorCode.INVALID_FIELD,
            f"set exactly one of `channel`, `client_id`, `user_id`, `everyone`; {count} are set",
        )
    payload, channel = bytes(message.event), message.channel
    if channel is not None:
        if not is_name(channel):
            raise RequestError(ErrorCode.INVALID_CHANNEL, f"{channel[:128]!r} is not a valid channel name")
        by.require(Action.PUBLISH, channel)
        return _to_channel(hub, pipeline, channel, payload, now_ns)
    by.require(Action.PUBLISH, EVERYONE if message.everyone else PERSONAL)
    if message.everyone:
        return _to_channel(hub, pipeline, EVERYONE, payload, now_ns)
    if message.user_id is not None:
        sessions = hub.store.of_user(message.user_id)
    else:
        session = hub.store.of_client(message.client_id or "")
        if session is None:
            raise RequestError(
                ErrorCode.UNKNOWN_CLIENT, f"client {message.client_id!r} is not connected, and has no session to resume"
            )
        sessions = [session]
    event = _event(pipeline, PERSONAL, payload, now_ns)
    for session in sessions:
        hub.observer.deliver_personal(session, *hub.store.append_personal(session, event))
    return BroadcastResult(len(sessions), PERSONAL, None)


def _to_channel(hub: Hub, pipeline: Pipeline, name: str, payload: bytes, now_ns: int) -> BroadcastResult:
    event = _event(pipeline, name, payload, now_ns)
    if not pipeline.logs.admit(name):
        raise RequestError(
            ErrorCode.UNAVAILABLE, f"channel {name!r} cannot open: as many as `ingest.channels_max` allows are open"
        )
    pipeline.logs.append([event])
    return BroadcastResult(hub.subscribers(name), name, pipeline.logs.by_name[name].position)


def _event(pipeline: Pipeline, channel: str, payload: bytes, now_ns: int) -> Event:
    try:
        return pipeline.ingest.read_event(channel, payload, now_ns=now_ns)
    except ValueError as error:
        raise RequestError(ErrorCode.INVALID_EVENT, str(error)) from error
