import { addressOf, resuming } from "./address.js";
import { isOwn } from "./channels.js";
import { deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { Closed, NotConnected, RequestRefused } from "./errors.js";
import type { Event, ItemOf } from "./events.js";
import type * as models from "./models.js";
import type { ClientEvents, ClientOptions, State } from "./options.js";
import { Heartbeat } from "./heartbeat.js";
import { delayAfter, mayReturn } from "./return.js";
import { Routes } from "./routes.js";
import { type NewSocket, type Socket, globalSocket } from "./socket.js";
import { type SubscribeOptions, Subscription } from "./subscription.js";
import { onWake } from "./wake.js";

const PROTOCOL = "neurograph";
const BUFFER = 10_000;
const BACKOFF_MS = [500, 20_000] as const;
/** A connection that is not greeted for so long is given up. */
const CONNECT_MS = 10_000;
/** What a subscribe message needs besides its positions. */
const REQUEST_BYTES_MAX = 8_192;
/** How long after an error the close is waited for. */
const CLOSE_MS = 100;
/** A connection that lasted so long was a good one: the pauses begin anew. */
const STEADY_MS = 10_000;

/** Follows channels of one gateway, on one connection that comes back by itself. */
export class Client {
  readonly #url: URL;
  readonly #options: ClientOptions;
  readonly #WebSocket: NewSocket;
  readonly #emitter = new Emitter<ClientEvents>();
  readonly #heartbeat = new Heartbeat(
    () => this.#send({ type: "ping" }),
    () => this.#lost(4001, "no answer from the gateway", { terminate: true }),
  );

  #state: State = "closed";
  #socket: Socket | null = null;
  #opening = deferred<models.Connected>();
  #unwake = (): void => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #retryAt: number | null = null;
  /** Which try this is: what belongs to an earlier one is ignored. */
  #generation = 0;
  #connectedAt = 0;
  #waitsUntil = 0;
  #welcome: models.Connected | null = null;
  #closing: models.ClosingMessage | null = null;

  readonly #routes = new Routes();
  /** Questions under way, by their id. */
  readonly #asked = new Map<unknown, Question>();
  #id = 0;

  constructor(url: string | URL, options: ClientOptions = {}) {
    this.#url = addressOf(url);
    if (options.userId !== undefined) this.#url.searchParams.set("user_id", options.userId);
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalSocket();
  }

  get state(): State {
    return this.#state;
  }

  /** What the gateway said when it greeted this client; null before that and once closed. */
  get info(): models.Connected | null {
    return this.#welcome;
  }

  /** When the next attempt to connect begins, in ms since 1970; null unless the state is `reconnecting`. */
  get retryAt(): number | null {
    return this.#state === "reconnecting" ? this.#retryAt : null;
  }

  /** Call `listener` from now on; returns what ends that. */
  on<Name extends keyof ClientEvents>(
    name: Name,
    listener: (value: ClientEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  /**
   * Connect, and stay connected until `disconnect` or until the gateway forbids to come back.
   *
   * Resolves with the first `connected` message; rejects with a Closed. What fails is tried again.
   */
  connect(): Promise<models.Connected> {
    if (this.#state === "closed") {
      this.#opening = deferred();
      this.#attempt = 0;
      this.#unwake = onWake(() => this.#wake());
      void this.#open();
    }
    return this.#opening.promise;
  }

  /** End the connection and all subscriptions; nothing is left running. */
  disconnect(): void {
    if (this.#state === "closed") return;
    this.#detach()?.close(1000);
    this.#close(1000, "disconnect", null);
  }

  /**
   * Follow channels, or all that patterns select: `*` is one segment, a final `>` the rest.
   *
   * With a handler, it is called with each event, once and in order. Without, iterate what is
   * returned. May be called at any time. Several subscriptions to one name share its filter and
   * rate: an Error is thrown if they differ; a second client can have others.
   */
  subscribe<Name extends string, Options extends SubscribeOptions>(
    channels: Name | readonly Name[],
    handler: (item: ItemOf<Name, Options>) => unknown,
    options?: Options,
  ): Subscription<ItemOf<Name, Options>>;
  subscribe<Name extends string, Options extends SubscribeOptions>(
    channels: Name | readonly Name[],
    options?: Options,
  ): Subscription<ItemOf<Name, Options>>;
  subscribe(
    channels: string | readonly string[],
    handler?: ((item: never) => unknown) | SubscribeOptions,
    options: SubscribeOptions = {},
  ): Subscription<any> {
    const names = typeof channels === "string" ? [channels] : [...channels];
    if (names.length === 0) throw new TypeError("name a channel");
    if (typeof handler !== "function") [handler, options] = [undefined, handler ?? {}];
    for (const other of this.#routes) {
      const { filter, rate } = other.options;
      const shared = other.channels.find((name) => names.includes(name));
      if (shared !== undefined && (filter !== options.filter || rate !== options.rate)) {
        throw new Error(`${shared} is followed already, with another filter or rate`);
      }
    }
    const owner = {
      buffer: this.#options.buffer ?? BUFFER,
      leave: (one: Subscription) => this.#leave(one),
      rewind: (one: Subscription) => this.#rewind(one),
      failed: (error: unknown) => this.#failed(error),
    };
    type Handler = ((item: Event | models.Gap) => unknown) | undefined;
    const subscription = new Subscription(owner, names, handler as Handler, options);
    this.#routes.add(subscription);
    if (this.#state === "connected") this.#ask(subscription);
    return subscription;
  }

  /** Make a round trip to the gateway; returns how long it took, in milliseconds. */
  async ping(): Promise<number> {
    const start = performance.now();
    await this.#request({ type: "ping" });
    return performance.now() - start;
  }

  /** Ask the gateway which channels and patterns it sends to this client. */
  async subscriptions(): Promise<string[]> {
    return ((await this.#request({ type: "get_subscriptions" })) as models.Subscriptions).channels;
  }

  // -- connections -------------------------------------------------------------------------------

  async #open(): Promise<void> {
    const generation = ++this.#generation;
    this.#closing = null;
    this.#timer = setTimeout(
      () => this.#lost(4001, "not greeted in time", { terminate: true }),
      CONNECT_MS,
    );
    this.#turn("connecting");
    try {
      const token = await this.#options.token?.();
      if (generation !== this.#generation) return;
      const session = this.#welcome?.session;
      const url = session === undefined ? this.#url.href : resuming(this.#url, session, this.#routes.reached);
      // A browser's WebSocket sends no headers: the token goes beside the protocol's name.
      this.#attach(new this.#WebSocket(url, token === undefined ? [] : [PROTOCOL, `bearer.${token}`]));
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#failed(error);
      this.#lost(1006, "the connection cannot be opened");
    }
  }

  #attach(socket: Socket): void {
    this.#socket = socket;
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (typeof data === "string") this.#receive(data);
    };
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#lost(code, reason);
    socket.onerror = () => {
      if (socket !== this.#socket) return;
      // A close follows and says more, but not in Node 20, where a connection was refused.
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#lost(1006, "the connection failed"), CLOSE_MS);
    };
  }

  /** Let go of the socket: nothing that it still says is heard. */
  #detach(): Socket | null {
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#heartbeat.stop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
    }
    this.#routes.pause();
    for (const one of this.#asked.values()) one.fail?.(new NotConnected("the connection was lost"));
    this.#asked.clear();
    return socket;
  }

  #lost(code: number, reason: string, { terminate = false } = {}): void {
    const socket = this.#detach();
    if (terminate && socket) (socket.terminate ?? socket.close).call(socket);
    const was = this.#state;
    if (was === "connected" && Math.abs(Date.now() - this.#connectedAt) > STEADY_MS) {
      this.#attempt = 0;
    }
    if (!mayReturn(code, this.#closing)) return this.#close(code, reason, new Closed(code, reason));
    const asked = this.#closing?.after_ms ?? 0;
    const retryMs = Math.max(asked, delayAfter(this.#attempt++, this.#options.backoffMs ?? BACKOFF_MS));
    // Who is woken up meanwhile comes back at once, unless the gateway wants clients spread.
    this.#waitsUntil = Date.now() + asked;
    this.#timer = setTimeout(() => void this.#open(), retryMs);
    this.#retryAt = Date.now() + retryMs;
    this.#turn("reconnecting");
    if (was === "connected") this.#emit("disconnected", { code, reason, retryMs });
  }

  #close(code: number, reason: string, error: Closed | null): void {
    const was = this.#state;
    this.#unwake();
    this.#welcome = null;
    this.#opening.reject(error ?? new Closed(code, reason));
    this.#turn("closed");
    if (was === "connected") this.#emit("disconnected", { code, reason, retryMs: null });
    if (error) this.#failed(error);
    for (const one of this.#routes) {
      this.#routes.remove(one);
      one.end(error);
    }
  }

  #wake(): void {
    if (this.#state === "connected") this.#heartbeat.probe();
    if (this.#state !== "reconnecting" || Date.now() < this.#waitsUntil) return;
    clearTimeout(this.#timer);
    void this.#open();
  }

  #turn(state: State): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", state);
  }

  // -- messages ----------------------------------------------------------------------------------

  #send(message: models.ClientMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #receive(text: string): void {
    this.#heartbeat.heard();
    let message: models.ServerMessage;
    try {
      message = JSON.parse(text) as models.ServerMessage;
    } catch (error) {
      return this.#failed(error);
    }
    switch (message.type) {
      case "event":
        return this.#routes.event(message as Event);
      case "gap": {
        const reported = this.#routes.gap(message);
        return reported ? this.#emit("gap", reported) : undefined;
      }
      case "connected":
        return this.#greeted(message);
      case "subscribed":
        return this.#subscribed(message, this.#question(message.id)?.subscription);
      case "pong":
        this.#routes.pong(message.positions);
        return this.#question(message.id)?.answer?.(message);
      case "subscriptions":
        return this.#question(message.id)?.answer?.(message);
      case "token_expiring":
        return void this.#refresh();
      case "unsubscribed":
        return this.#denied(message.denied ?? []);
      case "error":
        return this.#refused(message, this.#question(message.id));
      case "closing":
        this.#closing = message;
    }
  }

  #greeted(message: models.Connected): void {
    clearTimeout(this.#timer);
    this.#welcome = message;
    this.#connectedAt = Date.now();
    this.#heartbeat.start(message.heartbeat_seconds * 1000);
    for (const one of this.#routes) {
      if (!message.resumed) {
        one.held = false;
        one.tracks.delete("$personal"); // a new session counts its own anew
      }
      if (!one.held || one.channels.every(isOwn)) this.#ask(one);
    }
    this.#send({ type: "ping" }); // the answer names the epochs of channels nobody subscribes to
    this.#turn("connected");
    this.#opening.resolve(message);
    this.#emit("connected", message);
  }

  #subscribed(message: models.Subscribed, asked: Subscription | undefined): void {
    this.#denied(message.denied);
    if (asked && !this.#routes.has(asked)) return;
    this.#routes.subscribed(message, asked);
    if (!asked) this.#drop(message.channels); // what was left while there was no connection
  }

  /** End what follows channels that are not served to this client, or not any more. */
  #denied(denied: readonly models.Denied[]): void {
    for (const one of denied) {
      for (const subscription of this.#routes) {
        if (!subscription.channels.includes(one.channel)) continue;
        const status = one.code === "unauthorized" ? 401 : 403;
        this.#refuse(subscription, { ...one, status, temporary: false });
      }
    }
  }

  /** Bring a newer token before the one in use expires. */
  async #refresh(): Promise<void> {
    try {
      const token = await this.#options.token?.();
      if (token !== undefined) this.#send({ type: "auth", token });
    } catch (error) {
      this.#failed(error);
    }
  }

  #refused(message: models.Error, question: Question | undefined): void {
    const { subscription } = question ?? {};
    if (subscription && message.retry_after !== undefined) this.#askLater(subscription, message.retry_after);
    else if (subscription) this.#refuse(subscription, message);
    else if (question?.fail) question.fail(new RequestRefused(message));
    else this.#failed(new RequestRefused(message));
  }

  #refuse(subscription: Subscription, refusal: ConstructorParameters<typeof RequestRefused>[0]): void {
    const error = new RequestRefused(refusal);
    subscription.end(error);
    this.#leave(subscription);
    this.#failed(error);
  }

  // -- subscriptions -----------------------------------------------------------------------------

  #ask(subscription: Subscription): void {
    if (subscription.channels.every(isOwn)) return subscription.begin({});
    const id = ++this.#id;
    this.#asked.set(id, { subscription });
    const room = (this.#welcome?.limits.message_bytes_max ?? 0) - REQUEST_BYTES_MAX;
    this.#send({ type: "subscribe", channels: subscription.request(room), id });
  }

  /** Ask again once the gateway lets this client ask for more. */
  #askLater(subscription: Subscription, seconds: number): void {
    const generation = this.#generation;
    setTimeout(() => {
      if (generation === this.#generation && this.#routes.has(subscription)) this.#ask(subscription);
    }, seconds * 1000);
  }

  /** Who waits for an answer with this id. */
  #question(id: models.Pong["id"]): Question | undefined {
    const found = this.#asked.get(id);
    this.#asked.delete(id);
    return found;
  }

  #request(message: models.Ping | models.GetSubscriptions): Promise<models.ServerMessage> {
    if (this.#state !== "connected") return Promise.reject(new NotConnected(`the client is ${this.#state}`));
    const id = ++this.#id;
    return new Promise((answer, fail) => {
      this.#asked.set(id, { answer, fail });
      this.#send({ ...message, id });
    });
  }

  #leave(subscription: Subscription): void {
    if (this.#routes.remove(subscription) && this.#state === "connected") this.#drop(subscription.channels);
  }

  /** Let the gateway send no longer what nobody follows. */
  #drop(channels: readonly string[]): void {
    const left = this.#routes.unwanted(channels);
    if (left.length > 0) this.#send({ type: "unsubscribe", channels: left });
  }

  #rewind(subscription: Subscription): void {
    if (!subscription.channels.some(isOwn)) return this.#ask(subscription);
    subscription.end(new Error(`${subscription.channels}: messages were not taken fast enough`));
    this.#leave(subscription);
  }

  #emit<Name extends keyof ClientEvents>(name: Name, value: ClientEvents[Name]): void {
    this.#emitter.emit(name, value, (error) => this.#failed(error));
  }

  /** Tell of an error; where nobody listens, on the console. */
  #failed(error: unknown): void {
    const handled = this.#emitter.emit("error", error, (again) => console.error(again));
    if (!handled) console.error(error);
  }
}

/** Who waits for the reply to a message. */
interface Question {
  subscription?: Subscription;
  answer?(message: models.ServerMessage): void;
  fail?(error: Error): void;
}
