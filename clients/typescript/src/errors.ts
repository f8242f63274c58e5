import type * as models from "./models.js";

/** The gateway refused something; `code` is one of the words in docs/protocol.md. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";
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
