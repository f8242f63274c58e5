import type * as models from "./models.js";

/** The gateway does not do what was asked; `code` is its word, such as `invalid_filter`. */
export class RequestRefused extends Error {
  override readonly name = "RequestRefused";
  readonly code: string;
  readonly status: number;
  /** Whether the same may be granted later. */
  readonly temporary: boolean;

  constructor(refusal: Pick<models.Error, "code" | "status" | "message" | "temporary">) {
    super(refusal.message);
    this.code = refusal.code;
    this.status = refusal.status;
    this.temporary = refusal.temporary;
  }
}

/** The client is closed and does not come back by itself; `code` is the WebSocket's close code. */
export class Closed extends Error {
  override readonly name = "Closed";
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string) {
    super(`closed: ${code} ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** There is no connection, or it was lost before the answer came. */
export class NotConnected extends Error {
  override readonly name = "NotConnected";
}
