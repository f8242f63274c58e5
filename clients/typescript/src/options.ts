import type { Encoding } from "./decode.js";
import type { Connected, Gap } from "./models.js";
import type { NewSocket } from "./socket.js";

/** `new` is before `connect`, `reconnecting` the pause before the next attempt, `closed` after the end. */
export type State = "new" | "connecting" | "connected" | "reconnecting" | "closed";

/** Why a connection ended, and after how long the client reconnects: null if it does not. */
export interface Disconnected {
  code: number;
  reason: string;
  retryMs: number | null;
}

/** Why an attempt to connect failed. */
export interface ConnectFailed {
  /** 1006 if the connection or the upgrade was refused: browsers do not distinguish them. */
  code: number;
  reason: string;
  /** How many attempts in a row have failed, including this one. */
  attempt: number;
  /** When the next attempt begins, in ms since 1970 as from `Date.now()`; null if there is none. */
  retryAt: number | null;
  /** What to check, after several attempts of a page have failed. */
  hint?: string;
}

export interface ConnectOptions {
  /** Closes the client if it aborts before the first connection. */
  signal?: AbortSignal;
  /** Closes the client if there is no connection within this time. */
  timeoutMs?: number;
}

export interface ClientEvents {
  /** Connected; `resumed` says whether the session was resumed. */
  connected: Connected;
  disconnected: Disconnected;
  /** An attempt to connect failed. */
  connectFailed: ConnectFailed;
  /** Some events of subscribed channels are missing, and not because of a filter or rate. */
  gap: Gap;
  /** A probable mistake of the application, such as a filter that fails on events; written to the console without a listener. */
  warning: string;
  /** A RequestRefusedError, the final ClosedError, or an exception of a handler, a listener or the token callback. */
  error: unknown;
  state: State;
}

export interface ClientOptions {
  /** The user's id; the gateway uses it only if it has no authentication. */
  userId?: string;
  /** Returns the token; called for each connection, and before a token expires. */
  token?: () => string | Promise<string>;
  /** The upper limit of the first pause before a new attempt, and of all pauses: [500, 20_000]. */
  backoffMs?: readonly [number, number];
  /** Items of one subscription that may wait to be iterated: 10 000. Later ones are requested again once there is room. */
  buffer?: number;
  /** `msgpack` of this package, for MessagePack in place of JSON; with older gateways the client uses JSON. */
  encoding?: Encoding;
  /** The class to use if there is no global WebSocket, as in Node 20. */
  WebSocket?: NewSocket;
}
