export { Client } from "./client.js";
export type { ClientEvents, ClientOptions, Disconnected, Socket, State } from "./client.js";
export { Closed, NotConnected, RequestRefused } from "./errors.js";
export type { Channels, Event, EventOf, ItemOf } from "./events.js";
export type {
  Action,
  Connected,
  Connection,
  Gap,
  GapReason,
  LogRecord,
  Position,
  Signal,
  Status,
  SystemMetrics,
} from "./models.js";
export { Subscription } from "./subscription.js";
export type { SubscribeOptions } from "./subscription.js";
