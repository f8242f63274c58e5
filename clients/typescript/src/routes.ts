import { isOwn } from "./channels.js";
import type { Event } from "./events.js";
import type { Gap, Position, Subscribed } from "./models.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import { type Track, positionsOf } from "./track.js";

/** Whose each event is, and how far all have come. */
export class Routes implements Iterable<Subscription> {
  readonly #subscriptions = new Set<Subscription>();
  /** Who wants a channel, by its name. */
  readonly #wanting = new Map<string, Subscription[]>();
  /** The epoch in which the present connection numbers a channel. */
  readonly #epochs = new Map<string, string>();

  [Symbol.iterator](): Iterator<Subscription> {
    return [...this.#subscriptions].values();
  }

  has(subscription: Subscription): boolean {
    return this.#subscriptions.has(subscription);
  }

  /** Whether a name is followed with another filter or rate. */
  conflict(names: readonly string[], { filter, rate }: SubscribeOptions): boolean {
    return [...this.#subscriptions].some(({ channels, options }) =>
      (options.filter !== filter || options.rate !== rate) && channels.some((name) => names.includes(name)));
  }

  add(subscription: Subscription): void {
    this.#subscriptions.add(subscription);
    this.#wanting.clear();
  }

  /** Forget a subscription; false if it was none. */
  remove(subscription: Subscription): boolean {
    this.#wanting.clear();
    return this.#subscriptions.delete(subscription);
  }

  /** The connection is gone: the next one numbers anew. */
  pause(): void {
    this.#epochs.clear();
    for (const one of this.#subscriptions) one.active = false;
  }

  /** Which of some channels and patterns nobody follows any more. */
  unwanted(channels: readonly string[]): string[] {
    const followed = new Set([...this.#subscriptions].flatMap((one) => one.channels));
    return channels.filter((name) => !followed.has(name) && !isOwn(name));
  }

  // -- what the gateway says -----------------------------------------------------------------------

  event(event: Event): void {
    const { channel, epoch } = event;
    if (epoch === undefined) event.epoch = this.#epochs.get(channel) ?? "";
    else this.#epochs.set(channel, epoch);
    for (const one of this.#route(channel)) one.take(event, epoch === undefined);
  }

  /** Returns what of a gap is new to anybody who did not ask for it. */
  gap(gap: Gap): Gap | null {
    this.#epochs.set(gap.channel, gap.epoch);
    let reported: Gap | null = null;
    for (const one of this.#route(gap.channel)) {
      const missed = one.miss(gap);
      if (missed && reported !== gap) reported = missed;
    }
    return reported;
  }

  /** Channels go on from somewhere: for those that `asked`, or for all that a session held. */
  subscribed({ positions, recovered }: Subscribed, asked: readonly Subscription[] | undefined): void {
    for (const [name, position] of Object.entries(positions)) {
      this.#epochs.set(name, position.epoch);
      for (const one of this.#route(name)) one.rewound(name, position, recovered);
    }
    for (const one of asked ?? this) if (asked || one.held) one.begin(positions);
  }

  /** Learn epochs that nothing has named yet. */
  pong(positions: Record<string, Position>): void {
    for (const [name, { epoch }] of Object.entries(positions)) {
      if (this.#epochs.has(name)) continue;
      this.#epochs.set(name, epoch);
      for (const one of this.#route(name)) one.tracks.get(name)?.name(epoch);
    }
  }

  /** Where delivery is to go on in each channel: for the one that is furthest behind. */
  get reached(): Record<string, Position> {
    const tracks = new Map<string, Track>();
    for (const one of this.#subscriptions) {
      for (const [name, track] of one.held ? one.tracks : []) {
        const other = tracks.get(name);
        if (!other || track.isBehind(other)) tracks.set(name, track);
      }
    }
    return positionsOf(tracks);
  }

  #route(channel: string): Subscription[] {
    let route = this.#wanting.get(channel);
    if (route === undefined) {
      route = [...this.#subscriptions].filter((one) => one.selects(channel));
      this.#wanting.set(channel, route);
    }
    return route;
  }
}
