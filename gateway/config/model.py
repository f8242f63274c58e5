"""The model: every setting with its default, limits, unit and one sentence of documentation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta, Struct, inspect


_INT_MAX = 2**31 - 1  # what ZeroMQ and the kernel's socket options can hold
_SECONDS_MAX = 1_000_000.0  # as milliseconds still within _INT_MAX

Value = str | int | float | bool | tuple[str, ...]


def _of(unit: str, doc: str, *, least: int = 0) -> Meta:
    return Meta(ge=least, le=_INT_MAX, description=doc, extra={"unit": unit})


def _seconds(doc: str, *, least: float = 0.0) -> Meta:
    return Meta(ge=least, le=_SECONDS_MAX, description=doc, extra={"unit": "seconds"})


class Bus(Struct, frozen=True, kw_only=True):
    """The ZeroMQ side."""

    receive_hwm: Annotated[
        int, _of("messages", "High-water mark of the receiving socket, per publisher.", least=1)
    ] = 100_000
    message_bytes_max: Annotated[
        int,
        _of("bytes", "Larger messages are refused and their publisher is reconnected.", least=64),
    ] = 16_777_216
    heartbeat_seconds: Annotated[
        float, _seconds("How often a quiet connection is asked for a sign of life.", least=0.01)
    ] = 5.0
    heartbeat_timeout_seconds: Annotated[
        float, _seconds("A connection silent for so long is made anew.", least=0.02)
    ] = 15.0
    reconnect_seconds: Annotated[
        float, _seconds("First pause before a lost endpoint is tried again.", least=0.001)
    ] = 0.1
    reconnect_seconds_max: Annotated[
        float, _seconds("The pause doubles up to this.", least=0.001)
    ] = 5.0
    start_seconds: Annotated[
        float,
        _seconds("Publishers that are there have so long to be heard before the gateway is ready."),
    ] = 0.5
    linger_seconds: Annotated[
        float, _seconds("For how long a channel on demand is fetched after its last follower.")
    ] = 30.0
    drain_messages_max: Annotated[
        int, _of("messages", "At most so many are taken per tick and endpoint.", least=1)
    ] = 2_000


class Ingest(Struct, frozen=True, kw_only=True):
    """What is accepted from publishers."""

    payload_bytes_max: Annotated[
        int, _of("bytes", "Events with a larger payload are rejected.", least=2)
    ] = 1_048_576
    channels_max: Annotated[
        int,
        _of("channels", "Channels that topics may create; events beyond it are rejected.", least=1),
    ] = 1_000
    streams_max: Annotated[
        int,
        _of(
            "streams",
            "Topics of publishers whose numbering is followed; the longest silent are forgotten.",
            least=1,
        ),
    ] = 10_000
    rejections_kept: Annotated[
        int, _of("rejections", "The newest rejections kept for inspection over HTTP.")
    ] = 100


class Log(Struct, frozen=True, kw_only=True):
    """What a channel keeps for late and slow readers; [channels.<name>] overrides it for one channel."""

    events_max: Annotated[int, _of("events", "The newest events kept per channel.", least=1)] = (
        1_000
    )
    bytes_max: Annotated[
        int, _of("bytes", "Encoded bytes kept per channel; the newest event always stays.", least=1)
    ] = 16_777_216
    age_seconds_max: Annotated[float, _seconds("Older events are dropped; 0 = no limit.")] = 0.0
    key: Annotated[
        str,
        Meta(
            description='Path of the field that tells one subject from another, as in "data.host": '
            'each has a current value, and rates count for each; "" = there is one subject.'
        ),
    ] = ""
    keys_max: Annotated[
        int,
        _of("keys", "Current values kept per channel; those changed longest ago go.", least=1),
    ] = 1_000
    on_demand: Annotated[
        bool,
        Meta(
            description="Fetch from the bus only while somebody follows; then there is no history."
        ),
    ] = False


class Clients(Struct, frozen=True, kw_only=True):
    """WebSocket clients and their limits."""

    connections_max: Annotated[
        int, _of("clients", "Further ones are told to try again later (1013).", least=1)
    ] = 10_000
    subscriptions_max: Annotated[
        int, _of("subscriptions", "Channels and patterns one client may follow.", least=1)
    ] = 128
    message_bytes_max: Annotated[
        int, _of("bytes", "A client's larger message closes its connection (1009).", least=128)
    ] = 65_536
    heartbeat_seconds: Annotated[
        float, _seconds("How often a quiet client is pinged.", least=0.01)
    ] = 30.0
    heartbeat_grace_seconds: Annotated[
        float,
        _seconds(
            "A client that leaves a ping unanswered for so long is closed (4001).", least=0.01
        ),
    ] = 10.0
    handshake_seconds: Annotated[
        float, _seconds("Time for a connection to send its HTTP request.", least=0.01)
    ] = 10.0
    buffer_bytes_max: Annotated[
        int,
        _of("bytes", "Unsent bytes above which a client lags and reads on from the log.", least=1),
    ] = 65_536
    send_buffer_bytes: Annotated[
        int, _of("bytes", "The kernel's buffer per client (SO_SNDBUF); 0 = the kernel's choice.")
    ] = 262_144
    stall_seconds_max: Annotated[
        float,
        _seconds("A lagging client that takes nothing for so long is closed (4000).", least=0.01),
    ] = 120.0
    lag_events_max: Annotated[
        int, _of("events", "A client further behind is closed (4000); 0 = no limit.")
    ] = 0


class Sessions(Struct, frozen=True, kw_only=True):
    """Lost connections that may come back."""

    ttl_seconds: Annotated[
        float, _seconds("For how long a lost session can be taken up again; 0 = not at all.")
    ] = 300.0
    messages_max: Annotated[
        int, _of("messages", "Personal messages that wait for its return; the oldest make room.")
    ] = 1_000
    remembered_max: Annotated[
        int, _of("sessions", "Lost sessions remembered; the oldest make room.")
    ] = 10_000


class Shutdown(Struct, frozen=True, kw_only=True):
    """How the gateway ends at SIGTERM or SIGINT."""

    seconds_max: Annotated[
        float, _seconds("It has ended after this, whatever happens.", least=0.01)
    ] = 10.0
    spread_seconds: Annotated[
        float, _seconds("Clients are told to come back after a random part of this.")
    ] = 5.0


class Logging(Struct, frozen=True, kw_only=True):
    """What the gateway says about itself, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe level written."),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="auto = console on a terminal, JSON lines otherwise."),
    ] = "auto"


class Config(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Made by `gateway.config.load`, which checks it."""

    host: Annotated[str, Meta(description="Address that HTTP and WebSocket are served on.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port that they are served on; 0 = any that is free.")
    ] = 8000
    connect: Annotated[
        tuple[str, ...], Meta(description="Endpoints of publishers that bind (tcp:// or ipc://).")
    ] = ("tcp://127.0.0.1:5555",)
    bind: Annotated[str, Meta(description='Endpoint to which publishers connect; "" = none.')] = (
        "tcp://127.0.0.1:5556"
    )
    insecure_allow_remote: Annotated[
        bool,
        Meta(
            description="Allow addresses that other machines reach, although nobody is authenticated."
        ),
    ] = False
    bus: Bus = Bus()
    ingest: Ingest = Ingest()
    log: Log = Log()
    channels: dict[str, Log] = {}
    clients: Clients = Clients()
    sessions: Sessions = Sessions()
    shutdown: Shutdown = Shutdown()
    logging: Logging = Logging()

    def log_of(self, channel: str) -> Log:
        """What this channel keeps: its own settings, or the defaults of every channel."""
        return self.channels.get(channel, self.log)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the model, for whoever reads, prints or documents it."""

    key: str
    kind: inspect.Type
    default: Value
    unit: str
    doc: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "GATEWAY_" + self.key.replace(".", "_").upper()

    @property
    def default_toml(self) -> str:
        """The default as TOML writes it."""
        return json.dumps(self.default)  # numbers, texts, truth and lists look the same in both


def sections() -> dict[str, str]:
    """The model's sections and what each is about; those of single channels are not among them."""
    kinds = {field.name: field.default for field in msgspec.structs.fields(Config)}
    return {
        name: (type(default).__doc__ or "")
        for name, default in kinds.items()
        if isinstance(default, Struct)
    }


def settings() -> Iterator[Setting]:
    """Every setting in the model's order, the sections' after the top level's."""
    yield from _settings_of(Config, "")
    for section in sections():
        yield from _settings_of(type(getattr(Config(), section)), section + ".")


def _settings_of(model: type[Struct], prefix: str) -> Iterator[Setting]:
    described = cast(inspect.StructType, inspect.type_info(model))
    for field in described.fields:
        if isinstance(field.type, inspect.Metadata):
            yield Setting(
                key=prefix + field.name,
                kind=field.type.type,
                default=field.default,
                unit=(field.type.extra or {}).get("unit", ""),
                doc=(field.type.extra_json_schema or {}).get("description", ""),
            )
