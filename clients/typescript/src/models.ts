// Made by scripts/models.py from the gateway's models. Do not edit.

/**
 * The first message: all that a client would otherwise have to be configured with.
 *
 * `session` is a secret: connecting with it within `session_ttl_seconds` of a disconnect restores
 * identity, subscriptions, positions and waiting personal messages.
 */
export interface Connected {
  type: "connected";
  client_id: string;
  user_id: string | null;
  timestamp: string;
  session: string;
  session_ttl_seconds: number;
  resumed: boolean;
  server: Server;
  heartbeat_seconds: number;
  limits: Limits;
  roles: string[];
  token_expires?: string | null;
}

/** Who answers. */
export interface Server {
  name: string;
  version: string;
}

/** What this gateway accepts from one client. */
export interface Limits {
  message_bytes_max: number;
  subscriptions_max: number;
}

/**
 * From `positions` on nothing is missed; `recovered` answers each `since`.
 *
 * `bus` tells whether anything was heard from a publisher yet, or not for too long.
 */
export interface Subscribed {
  type: "subscribed";
  channels: string[];
  timestamp: string;
  bus: "live" | "stale" | "waiting";
  positions: Record<string, Position>;
  recovered: Record<string, boolean>;
  denied: Denied[];
  id?: string | number;
}

/** A place in a channel: after the event with this offset, in this life of the log. */
export interface Position {
  epoch: string;
  offset: number;
}

/** A channel that was asked for and is not served to this client. */
export interface Denied {
  channel: string;
  code: string;
  message: string;
}

/** Names the subscriptions that were really removed; `denied` says why, if nobody asked for it. */
export interface Unsubscribed {
  type: "unsubscribed";
  channels: string[];
  timestamp: string;
  denied?: Denied[];
  id?: string | number;
}

/** The token was accepted; what its bearer follows and may not any more is `unsubscribed` next. */
export interface Authenticated {
  type: "authenticated";
  user_id: string | null;
  roles: string[];
  token_expires: string;
  timestamp: string;
  id?: string | number;
}

/** The token expires soon, and with it the connection (4002) unless `auth` brings a newer one. */
export interface TokenExpiring {
  type: "token_expiring";
  token_expires: string;
  seconds: number;
  timestamp: string;
}

/** What this client follows, and on which conditions, if there are any. */
export interface Subscriptions {
  type: "subscriptions";
  channels: string[];
  timestamp: string;
  conditions?: Record<string, Conditions>;
  id?: string | number;
}

/** What a subscription leaves out. */
export interface Conditions {
  filter?: string | null;
  rate?: number | null;
}

/** A sign of life; all events up to `positions` were sent before it. */
export interface Pong {
  type: "pong";
  timestamp: string;
  positions: Record<string, Position>;
  id?: string | number;
}

/** Something was not done; the connection goes on. */
export interface Error {
  type: "error";
  code: string;
  status: number;
  message: string;
  temporary: boolean;
  retry_after?: number;
  id?: string | number;
}

/**
 * Events that will not come, and how many, if that is known.
 *
 * `evicted`: the log has moved on. `epoch`: what came at the end of the life before this one is not
 * known. `bus_loss`: lost between publisher and gateway. `rejected`: not let in. `unwatched`: not fetched, as nobody followed the channel. `conflated`: newer
 * events stand for them, as the subscription asked. `filtered`: the event that would have named its
 * epoch was not wanted. What follows is numbered in `epoch`; `from`
 * is null where what is missing begins in another one.
 */
export interface Gap {
  type: "gap";
  channel: string;
  epoch: string;
  from: number | null;
  to: number | null;
  count: number | null;
  reason: "bus_loss" | "conflated" | "epoch" | "evicted" | "filtered" | "rejected" | "unwatched";
}

/** Sent right before the gateway closes; come back after `after_ms` if `reconnect`. */
export interface ClosingMessage {
  type: "closing";
  code: number;
  reason: string;
  reconnect: boolean;
  after_ms: number;
}

/** An event as clients get it (declared for the schema; frames are joined from bytes). */
export interface EventMessage {
  type: "event";
  channel: string;
  offset: number;
  timestamp: string;
  data: unknown;
  event_type?: string;
  epoch?: string;
}

/** Follow channels; options apply to those that bring none of their own. */
export interface Subscribe {
  type: "subscribe";
  since?: Position | Record<string, Position> | null;
  last?: number | null;
  filter?: string | null;
  rate?: number | null;
  channels: (string | ChannelRequest)[];
  id?: string | number;
}

/** One channel of a `Subscribe`, with options of its own. */
export interface ChannelRequest {
  since?: Position | Record<string, Position> | null;
  last?: number | null;
  filter?: string | null;
  rate?: number | null;
  channel: string;
}

/** Stop following; `channels` names subscriptions as they were made. */
export interface Unsubscribe {
  type: "unsubscribe";
  channels: string[];
  id?: string | number;
}

/** Ask for what this client follows. */
export interface GetSubscriptions {
  type: "get_subscriptions";
  id?: string | number;
}

/** Ask for a sign of life and the current positions. */
export interface Ping {
  type: "ping";
  id?: string | number;
}

/** Authenticate, or refresh a token. */
export interface Auth {
  type: "auth";
  token: string;
  id?: string | number;
}

/** Figures of a system: what a dashboard draws. */
export interface SystemMetrics {
  cpu_percent?: number | null;
  memory_mb?: number | null;
  events_per_sec?: number | null;
  total_tokens?: number | null;
  total_connections?: number | null;
}

/** A signal that entered the core. */
export interface Signal {
  event_id?: string | number | null;
  event_type?: string | null;
  is_novel?: boolean | null;
  priority?: number | null;
  resonance_score?: number | null;
  neighbors_count?: number | null;
}

/** An action that the core carried out, or tried to. */
export interface Action {
  action_id?: string | number | null;
  action_type?: string | null;
  status?: string | null;
  result?: unknown;
  execution_time_ms?: number | null;
  error?: string | null;
}

/** A line of a log. */
export interface LogRecord {
  level: string;
  message: string;
  service?: string | null;
  correlation_id?: string | number | null;
}

/** How a service is. */
export interface Status {
  status: string;
  uptime_seconds?: number | null;
  version?: string | null;
}

/**
 * A client that came, went or changed its subscriptions; the gateway's own events.
 *
 * A publisher on the bus is one, too: its `client_id` is its incarnation.
 */
export interface Connection {
  client_id: string;
  user_id?: string | null;
  total_connections?: number | null;
  channels?: string[] | null;
  code?: number | null;
  seconds?: number | null;
  name?: string | null;
}

/** A publisher that fell silent or came back; the gateway's own events on ``status``. */
export interface BusStatus {
  status: string;
  service: string;
}

/** What `data` is on the standard channels. */
export interface StandardChannels {
  metrics: SystemMetrics;
  signals: Signal;
  actions: Action;
  logs: LogRecord;
  status: Status;
  connections: Connection;
}

export type ClientMessage = Subscribe | Unsubscribe | GetSubscriptions | Ping | Auth;
export type ServerMessage = Connected | Subscribed | Unsubscribed | Authenticated | TokenExpiring | Subscriptions | Pong | Error | Gap | ClosingMessage | EventMessage;
export type GapReason = Gap["reason"];
export type BusState = Subscribed["bus"];
export type ErrorCode = "invalid_json" | "unknown_type" | "invalid_field" | "invalid_filter" | "invalid_channel" | "unauthorized" | "forbidden" | "forbidden_origin" | "not_found" | "unknown_channel" | "unknown_client" | "method_not_allowed" | "timeout" | "too_large" | "unknown_host" | "invalid_event" | "upgrade_required" | "too_many_subscriptions" | "rate_limited" | "headers_too_large" | "internal" | "unsupported" | "unavailable";

/** Why the gateway closed a connection. */
export const CloseCode = {
  PROTOCOL_ERROR: 1002,
  BINARY: 1003,
  INVALID_TEXT: 1007,
  TOO_LARGE: 1009,
  INTERNAL: 1011,
  RESTART: 1012,
  TRY_LATER: 1013,
  SLOW_CONSUMER: 4000,
  HEARTBEAT_TIMEOUT: 4001,
  TOKEN_EXPIRED: 4002,
  SESSION_TAKEN_OVER: 4500,
  UNAUTHORIZED: 4501,
  AUTH_TIMEOUT: 4502,
  USER_LIMIT: 4503,
} as const;
