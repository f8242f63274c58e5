import type * as models from "./models.js";

/** The gateway refused a request; `code` says why. A newer gateway may have codes that are not listed. */
export class RequestRefusedError extends Error {
  override readonly name = "RequestRefusedError";
  readonly code: models.ErrorCode | (string & {});
  readonly status: number;
  /** Whether the same request may succeed later. */
  readonly temporary: boolean;

  constructor(refusal: Pick<models.Error, "code" | "status" | "message" | "temporary">) {
    super(refusal.message);
    this.code = refusal.code;
    this.status = refusal.status;
    this.temporary = refusal.temporary;
  }
}

/** The client is closed and does not reconnect; `code` is the WebSocket's close code (see `CloseCode`). */
export class ClosedError extends Error {
  override readonly name = "ClosedError";
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string) {
    super(`closed: ${code} ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** There is no connection, or it was lost before the answer arrived. */
export class NotConnectedError extends Error {
  override readonly name = "NotConnectedError";
}
