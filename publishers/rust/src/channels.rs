//! The data of the gateway's six standard channels; what is None is left out.

use serde::Serialize;

macro_rules! data {
    ($(#[$about:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Serialize)]
        pub struct $name {
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }
    };
}

data!(/// Figures of a system.
    Metrics {
        cpu_percent: f64, memory_mb: f64, events_per_sec: f64, total_tokens: u64, total_connections: u64,
    });
data!(/// A signal that entered the core.
    Signal {
        event_id: String, is_novel: bool, priority: u8, resonance_score: f64, neighbors_count: u64,
    });
data!(/// Something that the core did, or tried to.
    Action {
        action_id: String, status: String, result: serde_json::Value, execution_time_ms: f64, error: String,
    });
data!(/// What belongs to a line of a log.
    Log { service: String, correlation_id: String });
data!(/// How a service is.
    Status { uptime_seconds: f64, version: String });
data!(/// A client of the core's own that came or went.
    Connection { user_id: String, total_connections: u64 });
