"""Event objects, and one method for each of the gateway's six standard channels."""

from abc import ABC, abstractmethod
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any


Event = dict[str, Any]  # an event's data is the caller's: any JSON


STANDARD = frozenset({"metrics", "signals", "actions", "logs", "status", "connections"})


def event(event_type: str, data: Any, *, timestamp: datetime | str | None = None) -> Event:
    """Return an event object; `timestamp` is now unless given, a datetime with its offset.

    Raises:
        ValueError: The timestamp is no text, nor a datetime with an offset.
    """
    if isinstance(timestamp, datetime) and timestamp.tzinfo is None:
        raise ValueError("timestamp: a datetime without a time zone is ambiguous; add tzinfo")
    if timestamp is not None and not isinstance(timestamp, str | datetime):
        raise ValueError(f"timestamp: {timestamp!r} is neither a str nor a datetime")
    moment = timestamp if timestamp is not None else datetime.now(UTC)
    text = moment if isinstance(moment, str) else moment.isoformat()
    return {"event_type": event_type, "timestamp": text, "data": data}


def bytes_event(
    payload: bytes | bytearray | memoryview,
    *,
    content_type: str | None,
    event_type: str | None,
    timestamp: datetime | str | None,
) -> Event:
    """Return an event object that carries bytes.

    Raises:
        ValueError: The timestamp is no text, nor a datetime with an offset.
    """
    found = event(event_type or "", None, timestamp=timestamp)
    del found["data"]
    if not event_type:
        del found["event_type"]
    if content_type:
        found["content_type"] = content_type
    return {**found, "data_base64": b64encode(payload).decode()}


class StandardChannels(ABC):
    """Methods that publish on the standard channels.

    Each method returns what `publish` does. Fields that are None are left out; further fields are
    forwarded unchanged.
    """

    @abstractmethod
    def publish(
        self, topic: str, data: Any, event_type: str | None = None, timestamp: datetime | str | None = None
    ) -> bool:
        """Publish an event of this type and data on a topic."""

    def signal(
        self,
        kind: str,
        *,
        event_id: str | int | None = None,
        is_novel: bool | None = None,
        priority: int | None = None,
        resonance_score: float | None = None,
        neighbors_count: int | None = None,
        **fields: Any,
    ) -> bool:
        """Publish a signal that entered the core: ``signal.<kind>``; `priority` is 0 to 255."""
        event_type = f"signal.{kind}"
        data = _known(
            event_id=event_id,
            event_type=event_type,
            is_novel=is_novel,
            priority=priority,
            resonance_score=resonance_score,
            neighbors_count=neighbors_count,
        )
        return self.publish("signals", data | fields, event_type)

    def action(
        self,
        kind: str,
        *,
        action_id: str | int | None = None,
        status: str | None = None,
        result: Any = None,
        execution_time_ms: float | None = None,
        error: str | None = None,
        **fields: Any,
    ) -> bool:
        """Publish something that the core did, or tried to: ``action.executed``, with `kind` as its action_type."""
        data = _known(
            action_id=action_id,
            action_type=kind,
            status=status,
            result=result,
            execution_time_ms=execution_time_ms,
            error=error,
        )
        return self.publish("actions", data | fields, "action.executed")

    def metrics(
        self,
        *,
        cpu_percent: float | None = None,
        memory_mb: float | None = None,
        events_per_sec: float | None = None,
        total_tokens: int | None = None,
        total_connections: int | None = None,
        **fields: Any,
    ) -> bool:
        """Publish figures of a system: ``system_metrics``."""
        data = _known(
            cpu_percent=cpu_percent,
            memory_mb=memory_mb,
            events_per_sec=events_per_sec,
            total_tokens=total_tokens,
            total_connections=total_connections,
        )
        return self.publish("metrics", data | fields, "system_metrics")

    def log(
        self,
        level: str,
        message: str,
        *,
        service: str | None = None,
        correlation_id: str | int | None = None,
        **fields: Any,
    ) -> bool:
        """Publish a line of a log: ``log.<level>``."""
        data = _known(level=level, message=message, service=service, correlation_id=correlation_id)
        return self.publish("logs", data | fields, f"log.{level.lower()}")

    def status(
        self, state: str, *, uptime_seconds: float | None = None, version: str | None = None, **fields: Any
    ) -> bool:
        """Publish the state of a service: ``status.<state>``."""
        data = _known(status=state, uptime_seconds=uptime_seconds, version=version)
        return self.publish("status", data | fields, f"status.{state}")

    def connection(
        self,
        change: str,
        client_id: str,
        *,
        user_id: str | None = None,
        total_connections: int | None = None,
        **fields: Any,
    ) -> bool:
        """Publish that a client of the core connected or disconnected: ``client.<change>``."""
        data = _known(client_id=client_id, user_id=user_id, total_connections=total_connections)
        return self.publish("connections", data | fields, f"client.{change}")


def _known(**fields: Any) -> Event:
    return {name: value for name, value in fields.items() if value is not None}
