package publisher

import (
	"strings"
	"time"
)

// Some returns a pointer to a value, for the fields below: nil ones are left out.
func Some[T any](value T) *T { return &value }

// Metrics are figures of a system.
type Metrics struct {
	CPUPercent       *float64 `json:"cpu_percent,omitempty"`
	MemoryMB         *float64 `json:"memory_mb,omitempty"`
	EventsPerSec     *float64 `json:"events_per_sec,omitempty"`
	TotalTokens      *int64   `json:"total_tokens,omitempty"`
	TotalConnections *int64   `json:"total_connections,omitempty"`
}

// Signal is a signal that entered the core; Priority is 0 to 255.
type Signal struct {
	EventID        string   `json:"event_id,omitempty"`
	EventType      string   `json:"event_type,omitempty"` // set by Publisher.Signal
	IsNovel        *bool    `json:"is_novel,omitempty"`
	Priority       *uint8   `json:"priority,omitempty"`
	ResonanceScore *float64 `json:"resonance_score,omitempty"`
	NeighborsCount *int64   `json:"neighbors_count,omitempty"`
}

// Action is something that the core did, or tried to.
type Action struct {
	ActionID        string   `json:"action_id,omitempty"`
	ActionType      string   `json:"action_type,omitempty"` // set by Publisher.Action
	Status          string   `json:"status,omitempty"`
	Result          any      `json:"result,omitempty"`
	ExecutionTimeMS *float64 `json:"execution_time_ms,omitempty"`
	Error           string   `json:"error,omitempty"`
}

// Log is a line of a log.
type Log struct {
	Level         string `json:"level"`
	Message       string `json:"message"`
	Service       string `json:"service,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
}

// Status is how a service is.
type Status struct {
	Status        string   `json:"status"`
	UptimeSeconds *float64 `json:"uptime_seconds,omitempty"`
	Version       string   `json:"version,omitempty"`
}

// Connection is a client of the core's own that came or went.
type Connection struct {
	ClientID         string `json:"client_id"`
	UserID           string `json:"user_id,omitempty"`
	TotalConnections *int64 `json:"total_connections,omitempty"`
}

// Metrics publishes figures of a system on the channel metrics. It returns what Publish does, as all of these do.
func (p *Publisher) Metrics(data Metrics) (bool, error) {
	return p.PublishEvent("metrics", "system_metrics", data, time.Time{})
}

// Signal publishes on the channel signals.
func (p *Publisher) Signal(kind string, data Signal) (bool, error) {
	data.EventType = "signal." + kind
	return p.PublishEvent("signals", data.EventType, data, time.Time{})
}

// Action publishes on the channel actions.
func (p *Publisher) Action(kind string, data Action) (bool, error) {
	data.ActionType = kind
	return p.PublishEvent("actions", "action.executed", data, time.Time{})
}

// Log publishes on the channel logs.
func (p *Publisher) Log(data Log) (bool, error) {
	return p.PublishEvent("logs", "log."+strings.ToLower(data.Level), data, time.Time{})
}

// Status publishes on the channel status.
func (p *Publisher) Status(data Status) (bool, error) {
	return p.PublishEvent("status", "status."+data.Status, data, time.Time{})
}

// Connection publishes on the channel connections, as in "client.connected".
func (p *Publisher) Connection(change string, data Connection) (bool, error) {
	return p.PublishEvent("connections", "client."+change, data, time.Time{})
}
