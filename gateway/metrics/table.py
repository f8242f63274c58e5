"""Every metric, in one table: name, help, labels, and the labels of series that start at 0."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from gateway.core.ingest.rejections import Reason
from gateway.core.protocol.errors import CloseCode, ErrorCode
from gateway.core.protocol.events import STANDARD
from gateway.core.protocol.messages import CLIENT_TYPES
from gateway.core.sessions.rate_limit import Kind


Refused = Literal["address", "busy", "clients", "files", "handshake", "host", "origin", "sockets", "tls"]
"""Why a connection or a request was refused."""

PREFIX: Final = "neurograph_gateway_"

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROUND_TRIPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_DURATIONS = (1, 10, 60, 300, 1800, 3600, 6 * 3600, 86400)

# name: help, labels, buckets of a histogram (None for a counter)
COUNTED: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[float, ...] | None]]] = {
    "connections_opened_total": ("Connections opened.", (), None),
    "connections_closed_total": ("Connections closed, by close code.", ("code",), None),
    "connections_refused_total": ("Connections and requests refused, by reason.", ("reason",), None),
    "http_responses_total": ("Answers to HTTP requests, by route and status.", ("route", "status"), None),
    "client_messages_total": ("Messages of clients, by type; `invalid` are those that are none.", ("type",), None),
    "client_errors_total": ("Messages of clients answered with an error, by code.", ("code",), None),
    "client_rate_limited_total": ("What clients sent beyond their rate limits, by kind.", ("kind",), None),
    "client_events_total": (
        "Events that clients published on channels, by whether a process on the bus gets them; `none` is not published there.",
        ("bus",),
        None,
    ),
    "personal_messages_received_total": (
        "Personal messages from the bus, by whether the client was found.",
        ("found",),
        None,
    ),
    "subscriptions_denied_total": ("Channels that a client may not subscribe to.", (), None),
    "sessions_resumed_total": ("Clients that came with a session, by whether it was found.", ("found",), None),
    "channels_resumed_total": ("Channels resumed, by whether nothing was missing.", ("recovered",), None),
    "tokens_refused_total": ("Tokens refused, by reason.", ("reason",), None),
    "jwks_fetches_total": ("Fetches of keys from `auth.jwks_url`, by result.", ("result",), None),
    "client_round_trip_seconds": ("Time from a ping to the client's pong.", (), _ROUND_TRIPS),
    "connection_duration_seconds": ("Duration of closed connections.", (), _DURATIONS),
    "events_received_total": ("Valid events received from the bus.", ("channel",), None),
    "events_rejected_total": ("Bus messages rejected, by reason.", ("reason",), None),
    "bus_received_bytes_total": ("Bytes received from the bus, of all frames.", (), None),
    "events_delivered_total": ("Events written to clients, once per client.", (), None),
    "delivered_bytes_total": ("Bytes written to clients.", (), None),
    "messages_compressed_total": ("Messages compressed, each once for all clients.", (), None),
    "compression_saved_bytes_total": ("Bytes saved by compressing them.", (), None),
    "writes_total": ("Writes to clients; one write may hold many events.", (), None),
    "events_conflated_total": ("Events replaced by newer ones, by a client's rate.", (), None),
    "filter_errors_total": ("Events that a client's filter could not be evaluated on.", (), None),
    "readers_failed_total": ("Clients closed with 1011 as their events failed.", (), None),
    "replication_failures_total": ("Messages between processes that a worker's logs could not follow.", (), None),
    "events_lost_total": ("Events that a gap reported to a client as missed.", ("reason",), None),
    "clients_lagged_total": ("How often a client fell behind.", (), None),
    "batch_events": ("Events in one batch read from the bus.", (), _SIZES),
    "bus_latency_seconds": (
        "Time from the publisher's clock to the gateway's, of the oldest event of a batch.",
        (),
        _LATENCY,
    ),
    "fanout_latency_seconds": ("Time from receiving an event to writing it.", (), _LATENCY),
    "event_loop_lag_seconds": ("Delay of the event loop's timers.", (), _LATENCY),
}

# name: help, labels
SAMPLED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "connections": ("Open connections, by kind.", ("kind",)),
    "sessions_disconnected": ("Sessions of disconnected clients that can be resumed.", ()),
    "subscriptions": ("Subscribed clients, by channel.", ("channel",)),
    "clients_lagging": ("Clients that lag.", ()),
    "history_events": ("Events kept, by channel.", ("channel",)),
    "history_bytes": ("Memory for the events kept, by channel.", ("channel",)),
    "channels": ("Open channels.", ()),
    "channels_closed_total": ("Silent channels that were closed to make room for others.", ()),
    "current_values_dropped_total": ("Current values that gave way to others of their channel.", ()),
    "history_cut_bytes_total": ("Bytes evicted because all channels held more than `history.total_bytes_max`.", ()),
    "history_total_bytes": ("Memory for the events kept in all channels.", ()),
    "write_buffer_bytes": ("Unsent bytes of all clients.", ()),
    "write_buffer_max_bytes": ("Unsent bytes of the client with the most.", ()),
    "workers": ("Workers that are ready; 0 with one process.", ()),
    "workers_lost_total": ("Workers that ended and were replaced.", ()),
    "certificate_expiry_timestamp_seconds": ("Unix time at which the TLS certificate expires.", ()),
    "cluster_gateways": ("Gateways of the cluster that are known, this one included; 0 without a cluster.", ()),
    "cluster_engine_up": ("1 if the cluster's engine can be used, else 0; absent without a cluster.", ()),
    "cluster_engine_failures_total": ("How often the cluster's engine could not be used any more.", ()),
    "cluster_commands_total": ("Commands sent to the cluster's engine.", ()),
    "cluster_lease": (
        "1 for the state of this gateway's lease; absent if each gateway numbers for itself.",
        ("state",),
    ),
    "cluster_lease_refused_total": ("How often the engine refused this gateway's fence.", ()),
    "cluster_lease_overflowed_total": ("Events without numbers that were dropped because too many waited.", ()),
    "cluster_events_total": (
        "Events that the cluster's engine numbered: in a log, missing, or without room.",
        ("outcome",),
    ),
    "info": ("The gateway that runs; always 1.", ("version",)),
    "ready": ("1 if new clients can connect, else 0.", ()),
    "draining": ("1 while all clients are being closed, else 0.", ()),
    "limit": ("Settings that bound what is counted, by name.", ("setting",)),
    "client_lag_max_events": ("Events that the client is behind that lags most.", ()),
    "bus_live": ("1 if a publisher is connected and not silent, else 0.", ()),
    "bus_events_total": ("Messages with events, by endpoint.", ("endpoint", "address")),
    "bus_heartbeats_total": ("Heartbeats of publishers, by endpoint.", ("endpoint", "address")),
    "bus_rejected_total": ("Messages rejected, by endpoint.", ("endpoint", "address")),
    "bus_last_event_seconds": (
        "Seconds since the last event, by endpoint; +Inf before the first.",
        ("endpoint", "address"),
    ),
    "bus_peers": ("Connected publishers, by endpoint.", ("endpoint", "address")),
    "bus_handshakes_failed_total": ("Failed handshakes on the bus, by endpoint.", ("endpoint", "address")),
    "bus_sockets_reopened_total": ("Bus sockets replaced because they were dead.", ("endpoint", "address")),
    "bus_publish_reopen_failures_total": (
        "Failed attempts to open `bus.publish` again after an upgrade that failed.",
        (),
    ),
    "bus_messages_lost_total": ("Messages lost on the bus, by their sequence numbers.", ()),
    "bus_messages_duplicated_total": ("Messages received twice; the second was dropped.", ()),
    "bus_messages_late_total": ("Messages received after they were reported as lost.", ()),
    "bus_messages_recovered_total": ("Missing messages that their publisher replayed.", ()),
    "bus_replay_requests_failed_total": ("Replay requests without an answer in time.", ()),
    "bus_streams": ("Streams with sequence numbers that are known.", ()),
    "bus_streams_recovering": ("Streams waiting for the replay of missing messages.", ()),
    "bus_messages_held": ("Messages held back until the missing ones before them come.", ()),
    "bus_publishers": ("Publishers that send heartbeats: live, or stale.", ("state",)),
    "bus_streams_started_total": ("Streams seen for the first time, or after a restart.", ()),
    "event_loop_tasks": ("Tasks of the event loop.", ()),
}

# name: help, without labels
PROXY: Final[Mapping[str, str]] = {
    "proxy_frames_received_total": "Frames that the proxy received from publishers; an event has two or three.",
    "proxy_bytes_received_total": "Their bytes.",
    "proxy_frames_sent_total": "Frames that the proxy sent on, once for all gateways.",
    "proxy_bytes_sent_total": "Their bytes.",
    "proxy_publishers": "Connections of the proxy with publishers.",
    "proxy_gateways": "Connections of the proxy with gateways.",
    "proxy_publishers_live": "Publishers behind the proxy whose heartbeats come.",
    "proxy_handshakes_failed_total": "Failed handshakes at the proxy.",
    "proxy_replay_requests_total": "Replay requests of gateways that the proxy passed on.",
    "proxy_replay_unanswered_total": "Replay requests at the proxy without an answer.",
}

FROM_THE_START: Final[Mapping[str, Iterable[str]]] = {
    "events_rejected_total": get_args(Reason),
    "connections_refused_total": get_args(Refused),
    "connections_closed_total": [str(int(code)) for code in (*CloseCode, 1000, 1001, 1005, 1006)],
    "events_received_total": STANDARD,
    "events_lost_total": ["evicted"],
    "client_messages_total": [*CLIENT_TYPES, "invalid"],
    "client_errors_total": [code.word for code in ErrorCode],
    "client_rate_limited_total": get_args(Kind),
    "client_events_total": ["true", "false", "none"],
    "personal_messages_received_total": ["true", "false"],
    "sessions_resumed_total": ["true", "false"],
    "channels_resumed_total": ["true", "false"],
    "jwks_fetches_total": ["succeeded", "failed"],
}
"""Labels of series that start at 0: Prometheus would not see the first value as an increase."""


def names() -> list[str]:
    return [PREFIX + name for name in (*COUNTED, *SAMPLED, *PROXY)]
