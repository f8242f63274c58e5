import { type Deferred, deferred } from "./deferred.js";
import { NotConnectedError } from "./errors.js";
import type { Event } from "./events.js";

/** Requests to other clients or to processes: each gets the first answer to it, which is a personal message. */
export class Replies {
  readonly #subscribe: (take: (event: Event) => void) => { confirmed: Promise<void> };
  readonly #waiting = new Map<unknown, Deferred<Event> & { isSent: boolean }>();
  #following = false;

  constructor(subscribe: (take: (event: Event) => void) => { confirmed: Promise<void> }) {
    this.#subscribe = subscribe;
  }

  /** Returns the answer to a request; call `leave` afterwards. */
  expect(id: string): Promise<Event> {
    if (!this.#following) {
      this.#following = true;
      this.#subscribe((event) => this.#waiting.get((event as { request_id?: unknown }).request_id)?.resolve(event));
    }
    const waiting = Object.assign(deferred<Event>(), { isSent: false });
    this.#waiting.set(id, waiting);
    return waiting.promise;
  }

  /** Records that the gateway has published a request. */
  sent(id: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting) waiting.isSent = true;
  }

  leave(id: string): void {
    this.#waiting.delete(id);
  }

  /** Fails published requests: the session is lost, and with it their answers. */
  forgotten(): void {
    for (const one of this.#waiting.values()) {
      const text = "the gateway restarted or forgot this client: the request may have been done, and its answer may be lost";
      if (one.isSent) one.reject(new NotConnectedError(text));
    }
  }

  /** Fails all requests: the client has closed, with all subscriptions. */
  end(error: Error): void {
    this.#following = false;
    for (const one of this.#waiting.values()) one.reject(error);
  }
}
