export { Client } from "./client.js";
export type { Encoding } from "./decode.js";
export { ClosedError, NotConnectedError, RequestRefusedError } from "./errors.js";
export { EventStream } from "./event-stream.js";
export type { EventStreamOptions, StreamMessage } from "./event-stream.js";
export type { Channels, Event, EventOf, ItemOf } from "./events.js";
export { CloseCode } from "./models.js";
export { msgpack } from "./msgpack.js";
export type {
  Action,
  Connected,
  Connection,
  ErrorCode,
  Gap,
  GapReason,
  GatewayFigures,
  LogRecord,
  Position,
  Signal,
  Status,
  SystemMetrics,
} from "./models.js";
export type { ClientEvents, ClientOptions, ConnectFailed, ConnectOptions, Disconnected, State } from "./options.js";
export type { ChannelInfo, History, Presence, Published, PublishOptions, RequestOptions } from "./rest.js";
export type { Socket } from "./socket.js";
export type { SubscribeOptions, Subscription } from "./subscription.js";
