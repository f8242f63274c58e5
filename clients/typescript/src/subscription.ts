/// <reference lib="esnext.disposable" preserve="true" />
import { isOwn, isWildcard, matches } from "./channels.js";
import { deferred } from "./deferred.js";
import type { Event } from "./events.js";
import { fitting } from "./address.js";
import type { ChannelRequest, Gap, Position } from "./models.js";
import { Track, positionsOf } from "./track.js";

/** Where a subscription starts, and which events it gets. */
export interface SubscribeOptions {
  /** Start with this many of the newest events; 1 is the current value. */
  last?: number;
  /** Continue after this position of the only channel, or after the position for each channel. */
  since?: Position | Record<string, Position>;
  /** Only events that match this condition, in CEL. */
  filter?: string;
  /** At most this many events per second and key: the newest ones. */
  rate?: number;
  /** Deliver gaps, too, each at its place among the events. */
  gaps?: boolean;
  /** Closes the subscription when it aborts. */
  signal?: AbortSignal;
}

/** What a subscription needs of its client. @internal */
export interface Owner {
  /** Items that may wait to be iterated. */
  readonly buffer: number;
  leave(subscription: Subscription): void;
  rewind(subscription: Subscription): void;
  failed(error: unknown): void;
}

/** The reasons of gaps that the subscription's own filter or rate causes. */
const ASKED_FOR = new Set<string>(["conflated", "filtered"]);

interface Reader<Item> {
  resolve(result: IteratorResult<Item>): void;
  reject(error: Error): void;
}

/**
 * A subscription to some channels: it calls its handler, or is iterated with `for await`.
 *
 * A slow iteration holds a bounded number of items. Later ones stay in the gateway's log, and are requested
 * again when there is room.
 */
export class Subscription<Item extends Event | Gap = Event | Gap>
  implements AsyncIterableIterator<Item>
{
  /** Its names and patterns. */
  readonly channels: readonly string[];
  readonly options: Readonly<SubscribeOptions>;
  /** Resolves once the gateway has confirmed it: from then on every event is delivered or reported. Rejects if it ends before. */
  readonly confirmed: Promise<void>;

  /** Whether the gateway's session has it. @internal */
  held = false;
  /** Whether it has begun on the current connection. @internal */
  active = false;
  /** @internal */
  readonly tracks = new Map<string, Track>();

  readonly #owner: Owner;
  readonly #handler: ((item: Item) => unknown) | undefined;
  readonly #confirmation = deferred<void>();
  readonly #abort = (): void => this.close();
  #resumes: boolean;
  #behind: "no" | "yes" | "asked" = "no";
  #waiting: Item[] = [];
  #next = 0;
  #conflated = 0;
  #readers: Reader<Item>[] = [];
  #end: { error: Error | null } | null = null;

  /** @internal */
  constructor(
    owner: Owner,
    channels: readonly string[],
    handler: ((item: Item) => unknown) | undefined,
    options: SubscribeOptions,
  ) {
    this.#owner = owner;
    this.channels = channels;
    this.options = options;
    this.#handler = handler;
    this.#resumes = options.since !== undefined;
    this.confirmed = this.#confirmation.promise;
    options.signal?.addEventListener("abort", this.#abort, { once: true });
    for (const [name, position] of Object.entries(perChannel(channels, options.since))) {
      this.tracks.set(name, new Track(position));
    }
  }

  /** The position reached in each channel: a later client can continue there with `since`. */
  get positions(): Record<string, Position> {
    return positionsOf(this.tracks);
  }

  /** How many events were replaced by newer ones, because of `rate` or `last: 1`. */
  get conflated(): number {
    return this.#conflated;
  }

  /** Unsubscribes; waiting items can still be iterated. */
  close(): void {
    this.end(null);
    this.#owner.leave(this as unknown as Subscription);
  }

  // -- iteration ---------------------------------------------------------------------------------

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Returns the next item; throws the error that ended the subscription, if one did. */
  async next(): Promise<IteratorResult<Item>> {
    const item = this.#waiting[this.#next];
    if (item !== undefined) {
      this.#next += 1;
      if (this.#next * 2 > this.#waiting.length) {
        this.#waiting = this.#waiting.slice(this.#next);
        this.#next = 0;
        this.#catchUp();
      }
      return { done: false, value: item };
    }
    if (this.#end?.error) throw this.#end.error;
    if (this.#end) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  /** Closes the subscription when a `for await` loop ends early. */
  async return(): Promise<IteratorResult<Item>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** The end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  // -- called by the client ------------------------------------------------------------------------

  /** The requests to send to the gateway; positions for a pattern take at most `room` bytes. @internal */
  request(room: number): ChannelRequest[] {
    const { last, filter, rate } = this.options;
    const size = (one: Record<string, Position>): number => JSON.stringify(one).length;
    const positions = this.positions;
    return this.channels.filter((name) => !isOwn(name)).map((channel) => {
      const request: ChannelRequest = { channel, binary: true };
      if (filter !== undefined) request.filter = filter;
      if (rate !== undefined) request.rate = rate;
      if (!this.#resumes && last !== undefined) request.last = last;
      if (!this.#resumes) return request;
      if (isWildcard(channel)) request.since = fitting(positions, size, room / this.channels.length);
      else if (positions[channel]) request.since = positions[channel];
      return request;
    });
  }

  /** Whether it selects a channel. @internal */
  selects(name: string): boolean {
    return this.channels.some((pattern) => matches(pattern, name));
  }

  /** Starts at these positions. @internal */
  begin(positions: Record<string, Position>): void {
    this.held = this.active = this.#resumes = true;
    this.#behind = "no";
    for (const [name, position] of Object.entries(positions)) {
      if (!this.selects(name) || this.tracks.has(name)) continue;
      this.tracks.set(name, new Track(position));
    }
    this.#confirmation.resolve();
  }

  /** A channel continues from a position that this subscription, or another one, requested. @internal */
  rewound(name: string, position: Position, recovered: Record<string, boolean>): void {
    if (recovered[name] !== false) this.tracks.get(name)?.rewind(position);
  }

  /** Delivers an event if it is new; `alone` means that no other source of its channel is live. @internal */
  take(event: Event, alone: boolean): void {
    if (!this.#hasRoom() || !this.#track(event).takes(event.epoch, event.offset, alone)) return;
    this.#give(event as Item);
  }

  /** Delivers the new part of a gap, and returns it, unless the subscription's filter or rate caused it. @internal */
  miss(gap: Gap): Gap | null {
    const missed = this.#hasRoom() ? this.#track(gap).misses(gap) : null;
    if (missed && ASKED_FOR.has(missed.reason)) {
      this.#conflated += missed.count ?? 0;
      return null;
    }
    if (missed && this.options.gaps) this.#give(missed as Item);
    return missed;
  }

  /** Ends the iteration, with or without an error. @internal */
  end(error: Error | null): void {
    if (this.#end) return;
    this.#end = { error };
    this.options.signal?.removeEventListener("abort", this.#abort);
    this.active = this.held = false;
    this.#confirmation.reject(error ?? new Error(`the subscription to ${this.channels} was closed before the gateway confirmed it`));
    for (const reader of this.#readers.splice(0)) {
      if (error) reader.reject(error);
      else reader.resolve({ done: true, value: undefined });
    }
  }

  /** Returns the track of a channel, a new one if the channel is new. */
  #track({ channel, epoch }: { channel: string; epoch: string }): Track {
    let track = this.tracks.get(channel);
    if (track === undefined) this.tracks.set(channel, (track = new Track({ epoch, offset: -1 })));
    return track;
  }

  #hasRoom(): boolean {
    if (!this.active || this.#behind !== "no") return false;
    if (this.#waiting.length - this.#next < this.#owner.buffer) return true;
    this.#behind = "yes";
    return false;
  }

  #give(item: Item): void {
    if (this.#handler !== undefined) return this.#call(this.#handler, item);
    const reader = this.#readers.shift();
    if (reader) reader.resolve({ done: false, value: item });
    else this.#waiting.push(item);
  }

  #catchUp(): void {
    if (this.#behind !== "yes" || !this.active) return;
    this.#behind = "asked";
    this.#owner.rewind(this as unknown as Subscription);
  }

  #call(handler: (item: Item) => unknown, item: Item): void {
    try {
      const result = handler(item);
      if (result instanceof Promise) result.catch((error) => this.#owner.failed(error));
    } catch (error) {
      this.#owner.failed(error);
    }
  }
}

function perChannel(channels: readonly string[], since: SubscribeOptions["since"]): Record<string, Position> {
  if (since === undefined) return {};
  const one = typeof since["epoch"] === "string";
  if (!one) return since as Record<string, Position>;
  if (channels.length !== 1) throw new TypeError("`since` is one position, and there are several channels: give an object with a position for each");
  return { [channels[0] as string]: since as Position };
}
