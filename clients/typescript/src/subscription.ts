import { isWildcard, matches } from "./channels.js";
import type { Event } from "./events.js";
import { fitting } from "./address.js";
import type { ChannelRequest, Gap, Position } from "./models.js";
import { Track } from "./track.js";

/** How a subscription starts, and what it leaves out: see docs/protocol.md. */
export interface SubscribeOptions {
  /** Start with the newest so many events; 1 is the current value. */
  last?: number;
  /** Go on after a position; for a wildcard, after a position for each channel. */
  since?: Position | Record<string, Position>;
  /** Only events that meet this condition, in CEL. */
  filter?: string;
  /** At most so many events per second and key; the newest wins. */
  rate?: number;
}

/** What a subscription asks of its client. @internal */
export interface Owner {
  leave(subscription: Subscription): void;
  rewind(subscription: Subscription): void;
  failed(error: unknown): void;
}

interface Reader<E> {
  resolve(result: IteratorResult<E>): void;
  reject(error: Error): void;
}

/** Events that wait to be iterated; what comes when they are so many is asked for again later. */
const WAITING_MAX = 1000;

/** One interest in a channel or pattern: calls its handler, or is iterated with `for await`. */
export class Subscription<E extends Event = Event> implements AsyncIterableIterator<E> {
  readonly channel: string;
  readonly options: Readonly<SubscribeOptions>;
  /** Resolves when it has begun: from then on nothing is missed. Rejects if it is refused. */
  readonly ready: Promise<void>;

  /** Whether the gateway's session knows it. @internal */
  held = false;
  /** Whether it has begun on the present connection. @internal */
  active = false;
  /** @internal */
  readonly tracks = new Map<string, Track>();

  readonly #owner: Owner;
  readonly #handler: ((event: E) => unknown) | undefined;
  #begun: () => void = () => {};
  #refused: (error: Error) => void = () => {};
  #resumes: boolean;
  #behind: "no" | "yes" | "asked" = "no";
  #waiting: E[] = [];
  #next = 0;
  #readers: Reader<E>[] = [];
  #end: { error: Error | null } | null = null;

  /** @internal */
  constructor(
    owner: Owner,
    channel: string,
    handler: ((event: E) => unknown) | undefined,
    options: SubscribeOptions,
  ) {
    this.#owner = owner;
    this.channel = channel;
    this.options = options;
    this.#handler = handler;
    this.#resumes = options.since !== undefined;
    this.ready = new Promise((resolve, reject) => {
      this.#begun = resolve;
      this.#refused = reject;
    });
    this.ready.catch(() => {}); // who waits for it is told, and nobody else is bothered
    for (const [name, { epoch, offset }] of Object.entries(perChannel(channel, options.since))) {
      this.tracks.set(name, new Track(epoch, offset));
    }
  }

  /** Where it stands in each channel: a later client goes on there with `since`. */
  get positions(): Record<string, Position> {
    const all = [...this.tracks].map(([name, track]) => [name, track.position] as const);
    return Object.fromEntries(all.filter(([, { epoch, offset }]) => epoch !== "" && offset >= 0));
  }

  /** End it; what waits to be iterated is gone. */
  unsubscribe(): void {
    this.#waiting = [];
    this.#next = 0;
    this.end(null);
    this.#owner.leave(this as unknown as Subscription);
  }

  // -- iteration ---------------------------------------------------------------------------------

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next event; throws what ended the subscription, unless that was you. */
  async next(): Promise<IteratorResult<E>> {
    const event = this.#waiting[this.#next];
    if (event !== undefined) {
      this.#next += 1;
      if (this.#next * 2 > this.#waiting.length) {
        this.#waiting = this.#waiting.slice(this.#next);
        this.#next = 0;
        this.#catchUp();
      }
      return { done: false, value: event };
    }
    if (this.#end?.error) throw this.#end.error;
    if (this.#end) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  /** Leaving a `for await` unsubscribes. */
  async return(): Promise<IteratorResult<E>> {
    this.unsubscribe();
    return { done: true, value: undefined };
  }

  // -- what the client tells it --------------------------------------------------------------------

  /** What to ask the gateway for; its positions take at most `room` bytes. @internal */
  request(room: number): ChannelRequest {
    const { last, filter, rate } = this.options;
    const request: ChannelRequest = { channel: this.channel };
    if (filter !== undefined) request.filter = filter;
    if (rate !== undefined) request.rate = rate;
    if (!this.#resumes) {
      if (last !== undefined) request.last = last;
    } else if (isWildcard(this.channel)) {
      request.since = fitting(this.positions, (one) => JSON.stringify(one).length, room);
    } else {
      request.since = this.positions[this.channel] ?? null;
    }
    return request;
  }

  /** It has begun at these positions. @internal */
  begin(positions: Record<string, Position>, recovered: Record<string, boolean>): void {
    this.held = this.active = this.#resumes = true;
    this.#behind = "no";
    for (const [name, position] of Object.entries(positions)) {
      if (!matches(this.channel, name)) continue;
      if (this.tracks.has(name)) this.rewound(name, position.epoch, recovered);
      else this.tracks.set(name, new Track(position.epoch, position.offset));
    }
    this.#begun();
  }

  /** A channel goes on from another place. @internal */
  rewound(name: string, epoch: string, recovered: Record<string, boolean>): void {
    if (recovered[name] !== false) this.tracks.get(name)?.rewind(epoch);
  }

  /** The connection is gone. @internal */
  pause(): void {
    this.active = false;
  }

  /** Take an event, if it is new. @internal */
  take(event: E): void {
    if (!this.active || this.#behind !== "no") return;
    if (this.#waiting.length - this.#next >= WAITING_MAX) {
      this.#behind = "yes";
      return;
    }
    if (!this.#track(event).takes(event.epoch, event.offset)) return;
    if (this.#handler === undefined) this.#offer(event);
    else this.#call(this.#handler, event);
  }

  /** What of a gap is new to it. @internal */
  miss(gap: Gap): Gap | null {
    if (!this.active || this.#behind !== "no") return null;
    return this.#track(gap).misses(gap);
  }

  /** Finish the iteration, with an error or without. @internal */
  end(error: Error | null): void {
    if (this.#end) return;
    this.#end = { error };
    this.active = this.held = false;
    if (error) this.#refused(error);
    else this.#begun();
    for (const reader of this.#readers.splice(0)) {
      if (error) reader.reject(error);
      else reader.resolve({ done: true, value: undefined });
    }
  }

  /** The track of a channel, which may have opened just now. */
  #track({ channel, epoch }: { channel: string; epoch: string }): Track {
    let track = this.tracks.get(channel);
    if (track === undefined) this.tracks.set(channel, (track = new Track(epoch, -1)));
    return track;
  }

  #offer(event: E): void {
    const reader = this.#readers.shift();
    if (reader) reader.resolve({ done: false, value: event });
    else this.#waiting.push(event);
  }

  #catchUp(): void {
    if (this.#behind !== "yes" || !this.active) return;
    this.#behind = "asked";
    this.#owner.rewind(this as unknown as Subscription);
  }

  #call(handler: (event: E) => unknown, event: E): void {
    try {
      const result = handler(event);
      if (result instanceof Promise) result.catch((error) => this.#owner.failed(error));
    } catch (error) {
      this.#owner.failed(error);
    }
  }
}

function perChannel(channel: string, since: SubscribeOptions["since"]): Record<string, Position> {
  if (since === undefined) return {};
  const one = typeof since["epoch"] === "string";
  return one ? { [channel]: since as Position } : (since as Record<string, Position>);
}
