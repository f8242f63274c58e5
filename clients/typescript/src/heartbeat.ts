/** How long an answer is waited for, if the gateway's heartbeat is not shorter. */
const ANSWER_MS = 10_000;
/** A timer that is later than this was held back: the machine slept, or the tab is in the background. */
const LATE_MS = 2_000;

/**
 * Notices a dead connection: asks when it was quiet for a while, and gives up when nothing comes.
 *
 * Browsers hide WebSocket pings, and hold timers back in tabs nobody looks at. So elapsed time is
 * read from the clock, and a timer that comes late is no proof of silence: what has arrived may not
 * have been handled yet. Then the question is asked once more.
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

  /** Begin to watch; `quietMs` without a message lead to a question. */
  start(quietMs: number): void {
    this.#quietMs = quietMs;
    this.heard();
    this.#wait(quietMs);
  }

  /** Note that something came. */
  heard(): void {
    this.#heardAt = Date.now();
    this.#asked = 0;
  }

  /** Ask now, because much may have happened unseen. */
  probe(): void {
    this.#asked = 1;
    this.#ask();
    this.#wait(Math.min(this.#quietMs, ANSWER_MS));
  }

  /** Watch no longer. */
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
