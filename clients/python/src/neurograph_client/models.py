"""What the events of the six standard channels carry. Made from the gateway's models: `make models`.

Unknown members are kept in the dictionary, and None stands for "not known".
"""

from typing import Any, Final, Required, TypedDict

from neurograph_client.items import Channel


class SystemMetrics(TypedDict, total=False):
    """Figures of a running system."""

    cpu_percent: float | None
    memory_mb: float | None
    events_per_sec: float | None
    total_tokens: int | None
    total_connections: int | None


class Signal(TypedDict, total=False):
    """A signal that entered the core."""

    event_id: str | int | None
    event_type: str | None
    is_novel: bool | None
    priority: int | None
    resonance_score: float | None
    neighbors_count: int | None


class Action(TypedDict, total=False):
    """An action that the core tried to carry out."""

    action_id: str | int | None
    action_type: str | None
    status: str | None
    result: Any
    execution_time_ms: float | None
    error: str | None


class LogRecord(TypedDict, total=False):
    """A log message of a service."""

    level: Required[str]
    message: Required[str]
    service: str | None
    correlation_id: str | int | None


class Status(TypedDict, total=False):
    """The state of a service."""

    status: Required[str]
    uptime_seconds: float | None
    version: str | None


class Connection(TypedDict, total=False):
    """A client that connected, disconnected or changed its subscriptions; the gateway's own event.

    For a publisher on the bus, `client_id` is its incarnation.
    """

    client_id: Required[str]
    user_id: str | None
    total_connections: int | None
    channels: list[str] | None
    code: int | None
    seconds: float | None
    name: str | None


METRICS: Final[Channel[SystemMetrics]] = Channel("metrics")
"""Figures of the running system: ``system_metrics``."""
SIGNALS: Final[Channel[Signal]] = Channel("signals")
"""Signals that enter the core: ``signal.*``."""
ACTIONS: Final[Channel[Action]] = Channel("actions")
"""Actions and their results: ``action.*``."""
LOGS: Final[Channel[LogRecord]] = Channel("logs")
"""Log messages: ``log.<level>``."""
STATUS: Final[Channel[Status]] = Channel("status")
"""States of the services: ``status.<status>``."""
CONNECTIONS: Final[Channel[Connection]] = Channel("connections")
"""Clients that connect and disconnect: ``client.*``."""
