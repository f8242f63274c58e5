/** How long to wait for an answer, unless the gateway's heartbeat interval is shorter. */
const ANSWER_MS = 10_000;
/** A timer that fires later than this was delayed: the machine slept, or the tab is in the background. */
const LATE_MS = 2_000;

/**
 * Detects a dead connection: sends a ping after a time without messages, and reports the connection if no answer arrives.
 *
 * Browsers hide WebSocket pings, and delay timers in background tabs. So elapsed time is read from the
 * clock, and a late timer does not prove silence: messages that have arrived may not be handled yet.
 * In this case a second ping is sent.
 */
export class Heartbeat {
  readonly #ask: () => void;
  readonly #dead: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #quietMs = 0;
  #heardAt = 0;
  #dueAt = 0;
  #asked = 0;

  constructor(ask: () => void, dead: () => void) {
    this.#ask = ask;
    this.#dead = dead;
  }

  /** Starts; sends a ping after each `quietMs` without a message. */
  start(quietMs: number): void {
    this.#quietMs = quietMs;
    this.heard();
    this.#wait(quietMs);
  }

  /** Records that a message arrived. */
  heard(): void {
    this.#heardAt = Date.now();
    this.#asked = 0;
  }

  /** Sends a ping now, because the connection may have been lost unnoticed. */
  probe(): void {
    this.#asked = 1;
    this.#ask();
    this.#wait(Math.min(this.#quietMs, ANSWER_MS));
  }

  /** Stops. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#dueAt = Date.now() + milliseconds;
    this.#timer = setTimeout(() => this.#look(), milliseconds);
  }

  #look(): void {
    const now = Date.now();
    const quiet = now - this.#heardAt;
    const late = now - this.#dueAt > LATE_MS;
    if (!this.#asked && quiet >= 0 && quiet < this.#quietMs) {
      this.#wait(this.#quietMs - quiet);
    } else if (!this.#asked || (this.#asked === 1 && late)) {
      const asked = this.#asked + 1;
      this.probe();
      this.#asked = asked;
    } else {
      this.#dead();
    }
  }
}
