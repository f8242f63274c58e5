import { type Client, type Event, type Gap, RequestRefusedError, type SubscribeOptions } from "neurograph-client";

import { useEffect, useMemo } from "preact/hooks";

import type { Following, Gateway } from "./gateway.js";
import { Live, useLive } from "./live.js";

export type Item = Event | Gap;

const RATE_MS = 5_000;
/** Events older than the subscription that arrive within this time are history, and do not count for the rate. */
const HISTORY_MS = 2_000;
/** If no event arrives within this time after the confirmation, the channels have no history. */
const SETTLED_MS = 1_000;

/** The newest events of some channels, and the gaps between them; older ones are dropped beyond a limit. */
export class Feed extends Live {
  items: Item[] = [];
  /** How many events arrived, and how many gaps reported as missing. */
  count = 0;
  missing = 0;
  isPaused = false;
  /** Whether the gateway has confirmed the subscription. */
  isConfirmed = false;
  /** Why the gateway refused it. */
  error: RequestRefusedError | null = null;
  #isSettled = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #following: Following | null = null;
  #positions: Following["positions"] = {};
  #times: { at: number; count: number }[] = [];
  #live = 0;
  #began = Date.now();

  constructor(
    readonly gateway: Gateway,
    readonly channels: string[],
    readonly options: SubscribeOptions = {},
    readonly most = 1_000,
    /** A separate connection, or null for the page's connection. */
    readonly client: Client | null = null,
  ) {
    super();
  }

  open(): void {
    this.#began = Date.now();
    this.#follow(this.options);
  }

  /** Whether the first events have arrived, or it is known that there are none. */
  get isReady(): boolean {
    return this.items.length > 0 || this.error !== null || this.#isSettled;
  }

  /** Events per second, over the last few seconds. */
  get rate(): number {
    const now = Date.now();
    const first = this.#times.find(({ at }) => at > now - RATE_MS);
    return first ? ((this.#live - first.count) / Math.max(now - first.at, 1_000)) * 1000 : 0;
  }

  /** Unsubscribes, and keeps the positions. */
  pause(): void {
    if (this.isPaused) return;
    this.#positions = this.#following?.positions ?? {};
    this.#following?.close();
    this.isPaused = true;
    this.changed();
  }

  /** Continues after these positions; events that the gateway no longer holds are a gap. */
  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.#began = Date.now();
    this.#follow({ ...this.options, since: this.#positions });
    this.changed();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#following?.close();
  }

  #follow(options: SubscribeOptions): void {
    const take = (item: Item): void => this.#take(item);
    const client = this.client ?? this.gateway.client;
    const following = this.gateway.followOn(client, this.channels, take, options);
    this.#following = following;
    following.confirmed.then(
      () => {
        this.isConfirmed = true;
        this.#timer = setTimeout(() => {
          this.#isSettled = true;
          this.changed();
        }, SETTLED_MS);
        this.changed();
      },
      (error: unknown) => {
        if (!(error instanceof RequestRefusedError)) return; // it was closed
        this.error = error;
        this.changed();
      },
    );
  }

  #take(item: Item): void {
    this.items.push(item);
    if (this.items.length > this.most * 1.2) this.items.splice(0, this.items.length - this.most);
    if (item.type === "gap") this.missing += item.count ?? 0;
    else this.#counted(item);
    this.changed();
  }

  #counted(event: Event): void {
    this.count += 1;
    const now = Date.now();
    if (now - this.#began < HISTORY_MS && timeOf(event) < this.#began) return;
    this.#live += 1;
    const last = this.#times.at(-1);
    if (last && now - last.at < 500) return;
    this.#times.push({ at: now, count: this.#live });
    if (this.#times.length > 24) this.#times.shift();
  }
}

/** A feed that is open while the component is mounted; other inputs make a new one after the last is closed. */
export function useFeed<Found extends Feed | null>(make: () => Found, inputs: unknown[]): Found {
  const feed = useMemo(make, inputs);
  useEffect(() => {
    feed?.open();
    return () => feed?.close();
  }, [feed]);
  useLive(feed);
  return feed;
}

/** The value at a path in an event's data, such as `load.1m`. */
export function at(data: unknown, path: string): unknown {
  if (data !== null && typeof data === "object" && path in data) return (data as Record<string, unknown>)[path];
  return path.split(".").reduce<unknown>((value, name) => {
    return value !== null && typeof value === "object" ? (value as Record<string, unknown>)[name] : undefined;
  }, data);
}

/** The paths of all values of a kind in an event's data, two levels deep; "" is the data itself. */
export function pathsOf(data: unknown, kind: "number" | "string"): string[] {
  if (typeof data === kind) return [""];
  const found: string[] = [];
  const visit = (value: unknown, prefix: string, depth: number): void => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return;
    for (const [name, one] of Object.entries(value).slice(0, 64)) {
      if (typeof one === kind) found.push(prefix + name);
      else if (depth < 2) visit(one, `${prefix}${name}.`, depth + 1);
    }
  };
  visit(data, "", 1);
  return found;
}

const texts = new WeakMap<object, string>();

/** The text in which a search looks: the whole item, in lower case. */
function textOf(item: Item): string {
  let text = texts.get(item);
  if (text === undefined) texts.set(item, (text = JSON.stringify(item).toLowerCase()));
  return text;
}

/** The items that contain a text, in any case, and all gaps. */
export function searched(items: Item[], search: string): Item[] {
  const wanted = search.toLowerCase();
  return wanted ? items.filter((item) => item.type === "gap" || textOf(item).includes(wanted)) : items;
}

export const timeOf = (item: Event): number => Date.parse(item.timestamp) || Date.now();
