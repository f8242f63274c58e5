import type { Encoding } from "./decode.js";
import type { Connected, Gap } from "./models.js";
import type { NewSocket } from "./socket.js";

/** `new` is before `connect`, `reconnecting` the pause before the next attempt, `closed` after the end. */
export type State = "new" | "connecting" | "connected" | "reconnecting" | "closed";

/** Why a connection ended, and when the next one is tried: null if none is. */
export interface Disconnected {
  code: number;
  reason: string;
  retryMs: number | null;
}

/** Why an attempt to connect failed. */
export interface ConnectFailed {
  /** 1006 where the connection was refused or the upgrade denied: browsers do not say which. */
  code: number;
  reason: string;
  /** How many attempts in a row have failed, with this one. */
  attempt: number;
  /** When the next attempt begins, as from `Date.now()`; null if there is none. */
  retryAt: number | null;
  /** What to check, where several attempts of a page have failed. */
  hint?: string;
}

export interface ConnectOptions {
  /** Ends the client if it aborts before there is a connection. */
  signal?: AbortSignal;
  /** Ends the client if there is no connection in time. */
  timeoutMs?: number;
}

export interface ClientEvents {
  /** A connection is up; `resumed` tells whether the session was taken up again. */
  connected: Connected;
  disconnected: Disconnected;
  /** An attempt to connect failed. */
  connectFailed: ConnectFailed;
  /** Some events that are followed will not come, though they were asked for. */
  gap: Gap;
  /** What the gateway takes for a mistake, such as a filter that fails on events; on the console if nobody listens. */
  warning: string;
  /** A RequestRefusedError, the ClosedError at the end, or what a handler, a listener or the token callback threw. */
  error: unknown;
  state: State;
}

export interface ClientOptions {
  /** Who this is; believed while the gateway has no authentication. */
  userId?: string;
  /** Called for each connection; what it returns is sent as an `auth` message. */
  token?: () => string | Promise<string>;
  /** The longest first pause before a new try, and the longest of all: [500, 20_000]. */
  backoffMs?: readonly [number, number];
  /** Items of one subscription that may wait to be iterated: 10 000. What comes beyond is asked for again. */
  buffer?: number;
  /** `msgpack` of this package, for MessagePack in place of JSON; an older gateway goes on with JSON. */
  encoding?: Encoding;
  /** Where there is no global WebSocket, as in Node 20. */
  WebSocket?: NewSocket;
}
