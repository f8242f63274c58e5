import { type Deferred, deferred } from "./deferred.js";
import { NotConnectedError } from "./errors.js";
import type { Event } from "./events.js";

/** Who waits for an answer: each gets the first that comes for its request, as a personal message. */
export class Replies {
  readonly #subscribe: (take: (event: Event) => void) => { confirmed: Promise<void> };
  readonly #waiting = new Map<unknown, Deferred<Event> & { isSent: boolean }>();
  #following = false;

  constructor(subscribe: (take: (event: Event) => void) => { confirmed: Promise<void> }) {
    this.#subscribe = subscribe;
  }

  /** The answer to a request; call `leave` in the end. */
  expect(id: string): Promise<Event> {
    if (!this.#following) {
      this.#following = true;
      this.#subscribe((event) => this.#waiting.get((event as { request_id?: unknown }).request_id)?.resolve(event));
    }
    const waiting = Object.assign(deferred<Event>(), { isSent: false });
    this.#waiting.set(id, waiting);
    return waiting.promise;
  }

  /** The gateway has published a request. */
  sent(id: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting) waiting.isSent = true;
  }

  leave(id: string): void {
    this.#waiting.delete(id);
  }

  /** The gateway knows nothing of this client any more: no answer will come to what it has published. */
  forgotten(): void {
    for (const one of this.#waiting.values()) {
      const text = "the gateway restarted or forgot this client: what was asked may have been done, and its answer may be lost";
      if (one.isSent) one.reject(new NotConnectedError(text));
    }
  }

  /** The client has ended, and its subscriptions with it. */
  end(error: Error): void {
    this.#following = false;
    for (const one of this.#waiting.values()) one.reject(error);
  }
}
