import type { Event } from "./events.js";
import type { ClosingMessage, Connected, Error as Refusal, EventMessage, Gap, Subscribed } from "./models.js";
import { delayAfter } from "./reconnect.js";
import { Track } from "./track.js";

/** The messages of a stream. */
export type StreamMessage =
  | Event
  | Gap
  | Omit<Connected, "session" | "session_ttl_seconds">
  | Subscribed
  | Refusal
  | ClosingMessage;

export interface EventStreamOptions {
  /** Where to continue: the `lastEventId` of an earlier stream. */
  lastEventId?: string;
  /** The upper limit of the first pause before a new attempt, and of all pauses: [500, 20_000]. */
  backoffMs?: readonly [number, number];
  /** Whether a page of another origin sends cookies. */
  withCredentials?: boolean;
  /** The class to use if there is no global EventSource, as in Node. */
  EventSource?: typeof EventSource;
}

/** The names of messages other than channels' events. */
const NAMES = ["connected", "subscribed", "gap", "error", "closing"];

/**
 * Subscribes to channels over Server-Sent Events, for networks that block WebSocket.
 *
 * A browser's EventSource reconnects after a lost connection, but never after an HTTP error, which a proxy
 * returns while the gateway restarts. Then this class makes another one, which continues after the last event.
 * Events that the gateway sends again are dropped.
 */
export class EventStream {
  readonly #address: string | URL;
  readonly #take: (message: StreamMessage) => void;
  readonly #options: EventStreamOptions;
  readonly #tracks = new Map<string, Track>();
  readonly #epochs = new Map<string, string>();
  #source: EventSource | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #lastEventId: string;

  /** Connects to a URL such as `/events?channels=metrics,logs.*`; `take` is called with each message. */
  constructor(address: string | URL, take: (message: StreamMessage) => void, options: EventStreamOptions = {}) {
    this.#address = address;
    this.#take = take;
    this.#options = options;
    this.#lastEventId = options.lastEventId ?? "";
    this.#connect();
  }

  /** The position reached: a later stream can continue there. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  /** Ends the stream. */
  close(): void {
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  #connect(): void {
    const address = new URL(this.#address, globalThis.location?.href);
    if (this.#lastEventId) {
      address.searchParams.delete("lastEventId");
      // Not `searchParams`: it would encode the separators, and make a long id exceed the limits on URLs.
      const id = encodeURIComponent(this.#lastEventId).replace(/%(?:2C|3A|3D)/g, decodeURIComponent);
      address.search += `${address.search ? "&" : "?"}lastEventId=${id}`;
    }
    const { EventSource = globalThis.EventSource, withCredentials = false } = this.#options;
    const source = (this.#source = new EventSource(address, { withCredentials }));
    source.onopen = () => {
      this.#failures = 0;
    };
    source.onmessage = (message) => this.#receive(message);
    for (const name of NAMES) {
      // Failures that the browser itself reports are also named `error`, and have no data.
      source.addEventListener(name, (event) => "data" in event && this.#receive(event as MessageEvent<string>));
    }
    source.onerror = () => {
      if (source.readyState !== source.CLOSED || source !== this.#source) return;
      const pause = delayAfter(this.#failures++, this.#options.backoffMs ?? [500, 20_000]);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#connect(), pause);
    };
  }

  #receive({ data, lastEventId }: MessageEvent<string>): void {
    this.#lastEventId = lastEventId;
    const received = JSON.parse(data) as EventMessage | Exclude<StreamMessage, Event>;
    const message = this.#new(received);
    if (received.type === "closing" && !received.reconnect) this.close();
    if (message) this.#take(message);
  }

  /** Returns the part of a message that is new; null if there is none. */
  #new(message: EventMessage | Exclude<StreamMessage, Event>): StreamMessage | null {
    switch (message.type) {
      case "connected":
        this.#tracks.delete("$personal"); // each connection is a new session, which numbers personal messages from 1
        return message;
      case "subscribed":
        for (const [name, position] of Object.entries(message.positions)) {
          this.#epochs.set(name, position.epoch);
          const track = this.#tracks.get(name);
          if (track === undefined) this.#tracks.set(name, new Track(position));
          else if (message.recovered[name] !== false) track.rewind(position);
        }
        return message;
      case "gap":
        this.#epochs.set(message.channel, message.epoch);
        return this.#track(message.channel, message.epoch).misses(message);
      case "event": {
        const epoch = message.epoch ?? this.#epochs.get(message.channel) ?? "";
        this.#epochs.set(message.channel, epoch);
        const isNew = this.#track(message.channel, epoch).takes(epoch, message.offset, message.epoch === undefined);
        return isNew ? ({ ...message, epoch } as Event) : null;
      }
      default:
        return message;
    }
  }

  #track(channel: string, epoch: string): Track {
    const track = this.#tracks.get(channel) ?? new Track({ epoch, offset: -1 });
    this.#tracks.set(channel, track);
    return track;
  }
}
