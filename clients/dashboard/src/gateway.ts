// The page's access to its gateway: the connection, notices about it, and REST.
import { Client, ClosedError, type Event, type Gap, RequestRefusedError, type SubscribeOptions } from "neurograph-client";

import { Live } from "./live.js";

const NOTICES_MAX = 50;
/** The close code of a connection that the client itself has closed. */
const NORMAL = 1000;
const OWN_FIGURES = "metrics.gateway";
const TOKEN_WARNING_MS = 60_000;

/** Something that happened to the connection, to be shown. */
export type Notice = { at: number } & (
  | { kind: "resumed"; events: number }
  | { kind: "gap"; gap: Gap }
  | { kind: "lost"; code: number; reason: string }
  | { kind: "restarted" }
  | { kind: "version"; version: string }
  | { kind: "failed"; message: string }
);

/** A subscription of the page; `close` ends it. */
export interface Following {
  close(): void;
  readonly confirmed: Promise<void>;
  readonly positions: Record<string, { epoch: string; offset: number }>;
}

/** A request that REST refused, with its status and code. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The page's gateway. The token is kept here, in memory, and stored nowhere else. */
export class Gateway extends Live {
  readonly base = new URL(".", location.href.replace(/[?#].*$/, ""));
  readonly notices: Notice[] = [];
  client: Client;
  /** Grows with each sign-in, after which all feeds subscribe again. */
  generation = 0;
  needsToken = false;
  closed: ClosedError | null = null;
  version = "";
  /** How many events were received, without gaps. */
  received = 0;
  #token: string | null = null;
  #greetedBefore = false;

  constructor() {
    super();
    this.client = this.open();
  }

  get token(): string | null {
    return this.#token;
  }

  /** When the token expires, in ms since 1970; null without a token, or if it has no `exp`. */
  get tokenExpires(): number | null {
    try {
      const [, claims = ""] = (this.#token ?? "").split(".");
      const { exp } = JSON.parse(atob(claims.replace(/-/g, "+").replace(/_/g, "/"))) as { exp?: number };
      return exp === undefined ? null : exp * 1000;
    } catch {
      return null;
    }
  }

  get isTokenExpiring(): boolean {
    const expires = this.tokenExpires;
    return expires !== null && expires - Date.now() < TOKEN_WARNING_MS;
  }

  /** Connects again with a token; an open connection sends a newer token before the current one expires. */
  signIn(token: string): void {
    const renews = this.#token !== null && this.client.state === "connected";
    this.#token = token.trim() || null;
    this.needsToken = false;
    if (!renews) {
      this.client.disconnect();
      this.#greetedBefore = false;
      this.closed = null;
      this.client = this.open();
      this.generation += 1;
    }
    this.changed();
  }

  /** Returns a client with a separate connection, for filters and rates that must not affect the page's. */
  open(): Client {
    const client = new Client(this.base, this.#token === null ? {} : { token: () => this.#token ?? "" });
    client.on("state", () => this.changed());
    client.on("gap", (gap) => {
      // The gateway numbers its own figures from 1 at each start: that gap is no loss.
      if (gap.channel !== OWN_FIGURES || gap.reason !== "epoch") this.#note({ kind: "gap", gap });
    });
    client.on("disconnected", ({ code, reason }) => {
      if (code !== NORMAL) this.#note({ kind: "lost", code, reason }); // otherwise this page closed it
    });
    client.on("error", (error) => this.#failed(client, error));
    client.on("connected", (info) => this.#connected(client, info.server.version, info.resumed));
    addEventListener("pagehide", () => client.disconnect(), { once: true }); // otherwise the connection keeps the page out of the browser's back/forward cache
    client.connect().catch(() => {}); // the error is reported as an event, too
    return client;
  }

  /** Subscribes to channels on the page's connection. */
  follow(channels: string[], handler: (item: Event | Gap) => void, options: SubscribeOptions = {}): Following {
    return this.followOn(this.client, channels, handler, options);
  }

  followOn(client: Client, channels: string[], handler: (item: Event | Gap) => void, options: SubscribeOptions): Following {
    const subscription = client.subscribe(
      channels,
      (item: Event | Gap) => {
        if (item.type === "event") this.received += 1;
        handler(item);
      },
      { ...options, gaps: true },
    );
    subscription.confirmed.catch(() => {}); // refusals are reported as errors, too
    return subscription;
  }

  /** Sends a request over REST; throws a Refused. */
  async rest<T>(path: string, init: RequestInit = {}): Promise<T> {
    const headers = new Headers(init.headers);
    headers.set("Accept", "application/json");
    if (this.#token !== null) headers.set("Authorization", `Bearer ${this.#token}`);
    const answer = await fetch(new URL(path, this.base), { ...init, headers });
    const value: unknown = await answer.json().catch(() => null);
    if (answer.ok) return value as T;
    const { code = "", detail = answer.statusText } = (value ?? {}) as { code?: string; detail?: string };
    if (answer.status === 401) this.#askForToken();
    throw new Refused(answer.status, code, detail);
  }

  #connected(client: Client, version: string, resumed: boolean): void {
    if (client !== this.client) return;
    if (this.version && version !== this.version) this.#note({ kind: "version", version });
    this.version = version;
    if (this.#greetedBefore) {
      if (!resumed) this.#note({ kind: "restarted" });
      const before = this.received;
      // The answer arrives after all events that were missed.
      client.ping().then(
        () => this.#note({ kind: "resumed", events: this.received - before }),
        () => {},
      );
    }
    this.#greetedBefore = true;
    this.changed();
  }

  #failed(client: Client, error: unknown): void {
    if (error instanceof ClosedError) {
      if (client === this.client) this.closed = error;
      if (error.code === 4501 || error.code === 4502) this.#askForToken();
    } else if (error instanceof RequestRefusedError) {
      if (error.code === "unauthorized") this.#askForToken();
      else if (error.code !== "invalid_filter") this.#note({ kind: "failed", message: error.message });
    } else console.error(error);
    this.changed();
  }

  #askForToken(): void {
    if (this.needsToken) return;
    this.needsToken = true;
    this.changed();
  }

  #note(notice: { at?: number } & Record<string, unknown>): void {
    this.notices.unshift({ at: Date.now(), ...notice } as Notice);
    this.notices.length = Math.min(this.notices.length, NOTICES_MAX);
    this.changed();
  }
}
