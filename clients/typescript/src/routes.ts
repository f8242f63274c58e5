import { isOwn } from "./channels.js";
import type { Event } from "./events.js";
import type { Gap, Position, Subscribed } from "./models.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import { type Track, positionsOf } from "./track.js";

/** Routes events and gaps to subscriptions. */
export class Routes implements Iterable<Subscription> {
  readonly #subscriptions = new Set<Subscription>();
  /** The subscriptions that select a channel, by its name. */
  readonly #wanting = new Map<string, Subscription[]>();
  /** The epoch of each channel's newest message on the current connection. */
  readonly #epochs = new Map<string, string>();

  [Symbol.iterator](): Iterator<Subscription> {
    return [...this.#subscriptions].values();
  }

  has(subscription: Subscription): boolean {
    return this.#subscriptions.has(subscription);
  }

  /** Whether a subscription has one of these names with another filter or rate. */
  conflict(names: readonly string[], { filter, rate }: SubscribeOptions): boolean {
    return [...this.#subscriptions].some(({ channels, options }) =>
      (options.filter !== filter || options.rate !== rate) && channels.some((name) => names.includes(name)));
  }

  add(subscription: Subscription): void {
    this.#subscriptions.add(subscription);
    this.#wanting.clear();
  }

  /** Removes a subscription; returns false if it was not there. */
  remove(subscription: Subscription): boolean {
    this.#wanting.clear();
    return this.#subscriptions.delete(subscription);
  }

  /** Deactivates all subscriptions and forgets all epochs: the connection is lost. */
  pause(): void {
    this.#epochs.clear();
    for (const one of this.#subscriptions) one.active = false;
  }

  /** Returns those channels and patterns that no subscription names any more. */
  unwanted(channels: readonly string[]): string[] {
    const followed = new Set([...this.#subscriptions].flatMap((one) => one.channels));
    return channels.filter((name) => !followed.has(name) && !isOwn(name));
  }

  // -- messages of the gateway ---------------------------------------------------------------------

  event(event: Event): void {
    const { channel, epoch } = event;
    if (epoch === undefined) event.epoch = this.#epochs.get(channel) ?? "";
    else this.#epochs.set(channel, epoch);
    for (const one of this.#route(channel)) one.take(event, epoch === undefined);
  }

  /** Handles a gap; returns the part that is new to a subscription and not due to its filter or rate, else null. */
  gap(gap: Gap): Gap | null {
    this.#epochs.set(gap.channel, gap.epoch);
    let reported: Gap | null = null;
    for (const one of this.#route(gap.channel)) {
      const missed = one.miss(gap);
      if (missed && reported !== gap) reported = missed;
    }
    return reported;
  }

  /** Handles a confirmation: the subscriptions `asked` for, or all that the session had, continue at its positions. */
  subscribed({ positions, recovered }: Subscribed, asked: readonly Subscription[] | undefined): void {
    for (const [name, position] of Object.entries(positions)) {
      this.#epochs.set(name, position.epoch);
      for (const one of this.#route(name)) one.rewound(name, position, recovered);
    }
    for (const one of asked ?? this) if (asked || one.held) one.begin(positions);
  }

  /** Records epochs that no message has named yet. */
  pong(positions: Record<string, Position>): void {
    for (const [name, { epoch }] of Object.entries(positions)) {
      if (this.#epochs.has(name)) continue;
      this.#epochs.set(name, epoch);
      for (const one of this.#route(name)) one.tracks.get(name)?.name(epoch);
    }
  }

  /** The position from which each channel must continue: that of the subscription that is furthest behind. */
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
