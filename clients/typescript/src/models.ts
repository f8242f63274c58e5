// Made by scripts/models.py from the gateway's models. Do not edit.

/**
 * The first message on a connection.
 *
 * `session` is a secret: a client that connects with it within `session_ttl_seconds` after a
 * disconnect gets back its identity, subscriptions, positions and waiting personal messages.
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

/** The gateway's name and version. */
export interface Server {
  name: string;
  version: string;
}

/** The limits for one client. */
export interface Limits {
  message_bytes_max: number;
  subscriptions_max: number;
}

/**
 * Every event behind `positions` will be delivered, or reported as a gap.
 *
 * `recovered` says for each `since` whether nothing is missing. `bus` is ``waiting`` until a first
 * message arrives from a publisher, and ``stale`` while the heartbeats of all publishers are overdue.
 */
export interface Subscribed {
  type: "subscribed";
  channels: string[];
  timestamp: string;
  bus: "live" | "stale" | "waiting";
  positions: Record<string, Position>;
  recovered: Record<string, boolean>;
  denied: Denied[];
  warnings?: string[];
  id?: string | number;
}

/**
 * A place in a channel: behind the event with this offset of the source `epoch`.
 *
 * `others` has the offsets of the channel's further sources, by their epochs.
 */
export interface Position {
  epoch: string;
  offset: number;
  others?: Record<string, number>;
}

/** A channel that this client may not subscribe to. */
export interface Denied {
  channel: string;
  code: string;
  message: string;
}

/** The subscriptions that ended; `denied` says why, if the client did not unsubscribe. */
export interface Unsubscribed {
  type: "unsubscribed";
  channels: string[];
  timestamp: string;
  denied?: Denied[];
  id?: string | number;
}

/** The token was accepted. If it denies some subscriptions, an `unsubscribed` follows. */
export interface Authenticated {
  type: "authenticated";
  user_id: string | null;
  roles: string[];
  token_expires: string;
  timestamp: string;
  id?: string | number;
}

/** The token expires soon. Unless an `auth` replaces it, the connection is closed with 4002. */
export interface TokenExpiring {
  type: "token_expiring";
  token_expires: string;
  seconds: number;
  timestamp: string;
}

/** This client's subscriptions; `options` has those with a filter or a rate. */
export interface Subscriptions {
  type: "subscriptions";
  channels: string[];
  timestamp: string;
  options?: Record<string, ViewOptions>;
  id?: string | number;
}

/** Which events of its channels a subscription gets. */
export interface ViewOptions {
  filter?: string | null;
  rate?: number | null;
  binary?: boolean;
}

/** The reply to a ping; all events up to `positions` were sent before it. */
export interface Pong {
  type: "pong";
  timestamp: string;
  positions: Record<string, Position>;
  id?: string | number;
}

/**
 * An event was published: it has this position, and so many clients get it.
 *
 * `bus` says whether a process on the bus subscribes to it, null if the channel is not published there.
 */
export interface Published {
  type: "published";
  channel: string;
  position: Position;
  recipients: number;
  bus: boolean | null;
  timestamp: string;
  id?: string | number;
}

/** A request failed; the connection stays open. */
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
 * Something that is probably a mistake of the client's.
 *
 * `code` is ``filter_failed``: the filter of the subscription `channel` failed on `count` events, counted since
 * the last such warning. One comes at once, further ones once a minute while there are more.
 */
export interface WarningMessage {
  type: "warning";
  code: string;
  channel: string;
  count: number;
  message: string;
  timestamp: string;
}

/**
 * Events that will not be delivered, and how many, if that is known.
 *
 * `evicted`: the log no longer holds them. `epoch`: a new epoch began or a publisher ended, and
 * what came last before that is not known. `bus_loss`: lost between publisher and gateway. `rejected`: not valid.
 * `unwatched`: not fetched from the bus, as no client subscribed to the channel. `conflated`: replaced
 * by newer events, because of the subscription's rate. `filtered`: the filter does not match the
 * first event of an epoch, so this gap names the epoch. The next events are numbered in `epoch`;
 * `from` is null if the missing ones begin in an earlier epoch.
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

/** The last message before the gateway closes; if `reconnect`, reconnect after `after_ms`. */
export interface ClosingMessage {
  type: "closing";
  code: number;
  reason: string;
  reconnect: boolean;
  after_ms: number;
}

/** An event as clients get it (for the schema only: frames are joined from bytes). */
export interface EventMessage {
  type: "event";
  channel: string;
  offset: number;
  timestamp: string;
  data?: unknown;
  data_base64?: string;
  event_type?: string;
  epoch?: string;
}

/** Subscribe to channels; the options apply to each channel that does not set them itself. */
export interface Subscribe {
  type: "subscribe";
  since?: Position | Record<string, Position> | null;
  last?: number | null;
  filter?: string | null;
  rate?: number | null;
  binary?: boolean | null;
  channels: (string | ChannelRequest)[];
  id?: string | number;
}

/** One channel of a `Subscribe` with its own options. */
export interface ChannelRequest {
  since?: Position | Record<string, Position> | null;
  last?: number | null;
  filter?: string | null;
  rate?: number | null;
  binary?: boolean | null;
  channel: string;
}

/** End subscriptions; `channels` names them as they were made. */
export interface Unsubscribe {
  type: "unsubscribe";
  channels: string[];
  id?: string | number;
}

/** Request the list of this client's subscriptions. */
export interface GetSubscriptions {
  type: "get_subscriptions";
  id?: string | number;
}

/** Request a `Pong` with the current positions. */
export interface Ping {
  type: "ping";
  id?: string | number;
}

/** Authenticate, or replace the token before it expires. */
export interface Auth {
  type: "auth";
  token: string;
  id?: string | number;
}

/** Publish an event on a channel; answered by `Published`. */
export interface Publish {
  type: "publish";
  channel: string;
  event: unknown;
  idempotency_key?: string | null;
  /** Publish only if somebody gets the event: on a channel that is published on the bus a process there, else a client. */
  mandatory?: boolean;
  request_id?: string | null;
  id?: string | number;
}

/** Figures of a running system. */
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

/** An action that the core tried to carry out. */
export interface Action {
  action_id?: string | number | null;
  action_type?: string | null;
  status?: string | null;
  result?: unknown;
  execution_time_ms?: number | null;
  error?: string | null;
}

/** A log message of a service. */
export interface LogRecord {
  level: string;
  message: string;
  service?: string | null;
  correlation_id?: string | number | null;
}

/** The state of a service. */
export interface Status {
  status: string;
  uptime_seconds?: number | null;
  version?: string | null;
}

/**
 * A client that connected, disconnected or changed its subscriptions; the gateway's own event.
 *
 * For a publisher on the bus, `client_id` is its incarnation.
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

/** A publisher whose heartbeats are overdue, or came again; the gateway's own event on ``status``. */
export interface BusStatus {
  status: string;
  service: string;
}

/**
 * What a gateway does and uses; the gateway's own event on ``metrics.gateway``.
 *
 * Rates are those since the event before. `lost`, `repaired`, `rejected` and `evicted` count events
 * since the gateway's start: on the bus, and (`evicted`) of clients that lagged too far. `lag` is
 * how many events the slowest client is behind. `channels` has the rates of the channels that had
 * events, in events per second.
 */
export interface GatewayFigures {
  gateway: string;
  version: string;
  uptime_seconds: number;
  cpu_percent: number;
  memory_mb: number;
  connections: number;
  subscriptions: number;
  lagging: number;
  lag: number;
  received_per_second: number;
  received_bytes_per_second: number;
  delivered_per_second: number;
  delivered_bytes_per_second: number;
  lost: number;
  repaired: number;
  rejected: number;
  evicted: number;
  publishers: number;
  publishers_stale: number;
  bus: "live" | "stale" | "waiting";
  channels: Record<string, number>;
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

export type ClientMessage = Subscribe | Unsubscribe | GetSubscriptions | Ping | Auth | Publish;
export type ServerMessage = Connected | Subscribed | Unsubscribed | Authenticated | TokenExpiring | Subscriptions | Pong | Published | Error | WarningMessage | Gap | ClosingMessage | EventMessage;
export type GapReason = Gap["reason"];
export type BusState = Subscribed["bus"];
export type ErrorCode = "invalid_json" | "invalid_msgpack" | "unknown_type" | "invalid_field" | "invalid_filter" | "invalid_channel" | "unauthorized" | "forbidden" | "forbidden_origin" | "not_found" | "unknown_channel" | "unknown_client" | "method_not_allowed" | "timeout" | "too_large" | "unknown_host" | "invalid_event" | "upgrade_required" | "too_many_subscriptions" | "rate_limited" | "headers_too_large" | "internal" | "no_subscribers" | "unsupported" | "unavailable";

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
  REBALANCED: 4003,
  SESSION_TAKEN_OVER: 4500,
  UNAUTHORIZED: 4501,
  AUTH_TIMEOUT: 4502,
  USER_LIMIT: 4503,
  DISCONNECTED: 4504,
} as const;
