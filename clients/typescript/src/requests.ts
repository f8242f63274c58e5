import { NotConnectedError, RequestRefusedError } from "./errors.js";
import type * as models from "./models.js";

/** What to do with the reply to a message. */
export interface PendingRequest {
  answer(message: models.ServerMessage): void;
  fail(error: Error): void;
  /** Called instead of `fail` if a rate limit refused the message; without it, the same message is sent again. */
  later?(seconds: number): void;
}

/** Sends requests, and matches replies to them. Requests that a rate limit refused are sent again. */
export class Requests {
  readonly #send: (message: models.ClientMessage) => void;
  readonly #pending = new Map<unknown, PendingRequest & { message: models.ClientMessage }>();
  readonly #timers = new Map<PendingRequest, ReturnType<typeof setTimeout>>();
  #id = 0;

  constructor(send: (message: models.ClientMessage) => void) {
    this.#send = send;
  }

  send(message: models.ClientMessage, request: PendingRequest): void {
    const id = ++this.#id;
    this.#pending.set(id, { ...request, message });
    this.#send({ ...message, id });
  }

  /** Handles a reply; returns false if no request waits for it. */
  reply(message: models.ServerMessage & { id?: models.Pong["id"] }): boolean {
    const request = this.#pending.get(message.id);
    if (request === undefined) return false;
    this.#pending.delete(message.id);
    if (message.type !== "error") request.answer(message);
    else if (message.retry_after === undefined) request.fail(new RequestRefusedError(message));
    else if (request.later) request.later(message.retry_after);
    else this.#sendLater(request, message.retry_after);
    return true;
  }

  /** Fails all requests: the connection is lost. */
  end(): void {
    const waiting = [...this.#pending.values(), ...this.#timers.keys()];
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#pending.clear();
    for (const one of waiting) one.fail(new NotConnectedError("the connection was lost before the answer"));
  }

  #sendLater(request: PendingRequest & { message: models.ClientMessage }, seconds: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(request);
      this.send(request.message, request);
    }, seconds * 1000);
    this.#timers.set(request, timer);
  }
}
