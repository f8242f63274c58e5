import type { Event } from "./events.js";
import type { ClosingMessage, Connected, Error as Refusal, EventMessage, Gap, Subscribed } from "./models.js";
import { delayAfter } from "./return.js";
import { Track } from "./track.js";

/** What a stream brings. */
export type StreamMessage =
  | Event
  | Gap
  | Omit<Connected, "session" | "session_ttl_seconds">
  | Subscribed
  | Refusal
  | ClosingMessage;

export interface EventStreamOptions {
  /** Where to go on: the `lastEventId` of an earlier stream. */
  lastEventId?: string;
  /** The longest first pause before a new try, and the longest of all: [500, 20_000]. */
  backoffMs?: readonly [number, number];
  /** Whether a page of another origin sends its cookies. */
  withCredentials?: boolean;
  /** Where there is no global EventSource, as in Node. */
  EventSource?: typeof EventSource;
}

/** The names of messages that are not channels' events. */
const NAMES = ["connected", "subscribed", "gap", "error", "closing"];

/**
 * Channels over Server-Sent Events, for where a WebSocket does not come through.
 *
 * The browser's EventSource comes back after a lost connection, but gives up for good at an HTTP error, as a
 * proxy answers while the gateway restarts. Then this makes another one, which goes on behind the last event.
 * What the gateway sends twice is left out.
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

  /** Connect to an address such as `/events?channels=metrics,logs.*`; `take` gets each message. */
  constructor(address: string | URL, take: (message: StreamMessage) => void, options: EventStreamOptions = {}) {
    this.#address = address;
    this.#take = take;
    this.#options = options;
    this.#lastEventId = options.lastEventId ?? "";
    this.#connect();
  }

  /** Where it stands: a later stream goes on there. */
  get lastEventId(): string {
    return this.#lastEventId;
  }

  /** End the stream. */
  close(): void {
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  #connect(): void {
    const address = new URL(this.#address, globalThis.location?.href);
    if (this.#lastEventId) {
      address.searchParams.delete("lastEventId");
      // `searchParams` would encode the separators, and a long id would exceed what servers take as an address.
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
      // `error` is also the name of what the browser reports, without data.
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

  /** What of a message is new. */
  #new(message: EventMessage | Exclude<StreamMessage, Event>): StreamMessage | null {
    switch (message.type) {
      case "connected":
        this.#tracks.delete("$personal"); // each connection is a session of its own, and counts its own anew
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
