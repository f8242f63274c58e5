/// <reference lib="esnext.disposable" preserve="true" />
import { addressOf, resuming } from "./address.js";
import { CHANNELS_MAX, batches } from "./batches.js";
import { isOwn } from "./channels.js";
import { decode, toJson, type Encoding } from "./decode.js";
import { deferred, unless } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { ClosedError, NotConnectedError, RequestRefusedError } from "./errors.js";
import type { Event, ItemOf } from "./events.js";
import type * as models from "./models.js";
import type { ClientEvents, ClientOptions, ConnectOptions, State } from "./options.js";
import { Heartbeat } from "./heartbeat.js";
import { Questions } from "./questions.js";
import { randomKey } from "./key.js";
import { Replies } from "./replies.js";
import { OVER_SOCKET, Rest, type Published, type PublishOptions, type RequestOptions } from "./rest.js";
import { certificateProblem, delayAfter, hintAfter, mayReturn } from "./return.js";
import { Routes } from "./routes.js";
import { type NewSocket, type Socket, globalSocket } from "./socket.js";
import { type SubscribeOptions, Subscription } from "./subscription.js";
import { onWake } from "./wake.js";

const PROTOCOL = "neurograph";
const BUFFER = 10_000;
const BACKOFF_MS = [500, 20_000] as const;
/** A connection that is not greeted for so long is given up. */
const CONNECT_MS = 10_000;
/** How long after an error the close is waited for. */
const CLOSE_MS = 100;
/** A connection that lasted so long was a good one: the pauses begin anew. */
const STEADY_MS = 10_000;
/** How long the answer to what is published may take. */
const ANSWER_MS = 10_000;
/** What a message has beside what is published. */
const ROOM_BYTES = 256;

/** The subprotocol in which every message has an encoding. */
const packed = ({ name }: Encoding): string => `${PROTOCOL}.${name}`;

/** Follows channels of one gateway, on one connection that comes back by itself. */
export class Client extends Rest {
  readonly #url: URL;
  readonly #options: ClientOptions;
  readonly #WebSocket: NewSocket;
  readonly #emitter = new Emitter<ClientEvents>();
  readonly #heartbeat = new Heartbeat(
    () => this.#send({ type: "ping" }),
    () => this.#lost(4001, "no answer from the gateway", { terminate: true }),
  );

  #state: State = "new";
  #socket: Socket | null = null;
  #opening = deferred<models.Connected>();
  /** Resolves when there is a connection, rejects when there will be none. */
  #up = deferred<void>();
  /** How many sessions there have been: the gateway knows nothing of an earlier one. */
  #sessions = 0;
  #unwake = (): void => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  /** How many attempts in a row have failed, and why the last one did. */
  #failures = 0;
  #why = "";
  #retryAt: number | null = null;
  /** Which try this is: what belongs to an earlier one is ignored. */
  #generation = 0;
  #connectedAt = 0;
  #waitsUntil = 0;
  #welcome: models.Connected | null = null;
  #closing: models.ClosingMessage | null = null;

  readonly #replies = new Replies((take) => this.subscribe("$personal", take));
  readonly #routes = new Routes();
  readonly #questions = new Questions((message) => this.#send(message));
  /** What the gateway sends to this connection. */
  readonly #followed = new Set<string>();
  /** What is to be asked for with the next message. */
  readonly #unasked = new Set<Subscription>();
  #flushing = false;
  /** Until when the gateway takes no more requests to subscribe or unsubscribe. */
  #pausedUntil = 0;
  /** Further connections: one has a single filter and rate for each name. */
  readonly #others: Client[] = [];
  #pauseTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string | URL, options: ClientOptions = {}) {
    const address = addressOf(url);
    super(address, options.token);
    this.#url = address;
    if (options.userId !== undefined) this.#url.searchParams.set("user_id", options.userId);
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalSocket();
  }

  get state(): State {
    return this.#state;
  }

  get #isIdle(): boolean {
    return this.#state === "new" || this.#state === "closed";
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
   * Resolves with the first `connected` message; rejects with a ClosedError. What fails is tried again: see the
   * event `connectFailed`. With `timeoutMs` or `signal`, it rejects with a NotConnectedError or the signal's reason.
   */
  connect(options: ConnectOptions = {}): Promise<models.Connected> {
    const { signal, timeoutMs } = options;
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#isIdle) {
      this.#opening = deferred();
      this.#up = deferred();
      this.#attempt = 0;
      this.#unwake = onWake(() => this.#wake());
      this.#failures = 0;
      void this.#open();
      for (const other of this.#others) other.connect().catch(() => {}); // `error` tells
    }
    const { promise } = this.#opening;
    if (!signal && timeoutMs === undefined) return promise;
    return unless(promise, { signal, timeoutMs, giveUp: () => this.disconnect(), why: () => this.#why || "no answer" });
  }

  /** End the connection and all subscriptions; nothing is left running. */
  disconnect(): void {
    for (const other of this.#others) other.disconnect();
    if (this.#isIdle) return;
    this.#detach()?.close(1000);
    this.#close(1000, "disconnect", null);
  }

  /**
   * Follow channels, or all that patterns select: `*` is one segment, a final `>` the rest.
   *
   * With a handler, it is called with each event, once and in order. Without, iterate what is
   * returned. Subscriptions to one name with different filters or rates each take a connection of their own.
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
    if (typeof handler === "object") [handler, options] = [undefined, handler];
    options.signal?.throwIfAborted();
    if (this.#routes.conflict(names, options)) {
      return this.#beside(names, options).subscribe(names, handler as (item: Event) => unknown, options);
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

  /** The connection that can have a subscription beside those that this one has. */
  #beside(names: readonly string[], options: SubscribeOptions): Client {
    const free = this.#others.find((one) => !one.#routes.conflict(names, options));
    if (free) return free;
    const made = new Client(this.#url, this.#options);
    made.on("gap", (gap) => this.#emit("gap", gap));
    made.on("warning", (text) => this.#warn(text));
    made.on("error", (error) => this.#failed(error));
    this.#others.push(made);
    if (!this.#isIdle) made.connect().catch(() => {}); // `error` tells
    return made;
  }

  /**
   * Publish an event that asks for an answer; resolves with the answer, the first event that comes back for it.
   *
   * Rejects with a RequestRefusedError (`no_subscribers`: nobody listens), a NotConnectedError (no answer in
   * `timeoutMs`, 10 000; or the gateway restarted or forgot this client before it), or a ClosedError.
   */
  async request(channel: string, data: unknown, options: PublishOptions = {}): Promise<Event> {
    const { eventType = "request", signal } = options;
    if (signal?.aborted) throw signal.reason;
    if (this.#isIdle) throw new NotConnectedError("the client was not started");
    const id = randomKey();
    const event = { event_type: eventType, data };
    const message = { type: "publish", channel, event, idempotency_key: id, mandatory: true, request_id: id } as const;
    const reply = this.#replies.expect(id);
    try {
      return await this.#publishOnce(message, options, () => {
        this.#replies.sent(id);
        return reply;
      });
    } finally {
      this.#replies.leave(id);
    }
  }

  /** The end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
  }

  /** Make a round trip to the gateway; returns how long it took, in milliseconds. */
  async ping({ signal }: RequestOptions = {}): Promise<number> {
    const start = performance.now();
    await this.#request({ type: "ping" }, signal);
    return performance.now() - start;
  }

  /** Ask the gateway which channels and patterns it sends to this client. */
  async subscriptions({ signal }: RequestOptions = {}): Promise<string[]> {
    const asked = [this, ...this.#others].map((one) => one.#request({ type: "get_subscriptions" }, signal));
    const answers = (await Promise.all(asked)) as models.Subscriptions[];
    return [...new Set(answers.flatMap((one) => one.channels))];
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
      const { encoding } = this.#options;
      const protocols = encoding ? [packed(encoding), PROTOCOL] : token === undefined ? [] : [PROTOCOL];
      if (token !== undefined) protocols.push(`bearer.${token}`);
      this.#attach(new this.#WebSocket(url, protocols));
    } catch (error) {
      if (generation !== this.#generation) return;
      this.#failed(error);
      this.#lost(1006, `the connection cannot be opened: ${String(error)}`);
    }
  }

  #attach(socket: Socket): void {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }: { data: unknown }) => this.#receive(data);
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => this.#lost(code, reason);
    this.#why = "";
    socket.onerror = (event: { message?: string } | undefined) => {
      if (socket !== this.#socket) return;
      this.#why = event?.message ?? ""; // a browser does not say
      // A close follows and says more, but not in Node 20, where a connection was refused.
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#lost(1006, ""), CLOSE_MS);
    };
  }

  /** Let go of the socket: nothing that it still says is heard. */
  #detach(): Socket | null {
    this.#generation += 1;
    if (this.#state === "connected") this.#up = deferred();
    clearTimeout(this.#timer);
    this.#heartbeat.stop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onmessage = socket.onclose = null;
    this.#routes.pause();
    this.#followed.clear();
    this.#unasked.clear();
    this.#pausedUntil = 0;
    clearTimeout(this.#pauseTimer);
    this.#questions.end();
    return socket;
  }

  #lost(code: number, reason: string, { terminate = false } = {}): void {
    const socket = this.#detach();
    if (terminate && socket) (socket.terminate ?? socket.close).call(socket);
    const was = this.#state;
    if (was === "connected" && Math.abs(Date.now() - this.#connectedAt) > STEADY_MS) {
      this.#attempt = 0;
    }
    reason = this.#closing?.reason || reason || this.#why || "the connection failed";
    if (!mayReturn(code, this.#closing)) {
      if (was === "connecting") void this.#tellFailed(code, reason, null);
      return this.#close(code, reason, new ClosedError(code, reason));
    }
    const asked = this.#closing?.after_ms ?? 0;
    const retryMs = Math.max(asked, delayAfter(this.#attempt++, this.#options.backoffMs ?? BACKOFF_MS));
    // Who is woken up meanwhile comes back at once, unless the gateway wants clients spread.
    this.#waitsUntil = Date.now() + asked;
    this.#timer = setTimeout(() => void this.#open(), retryMs);
    this.#retryAt = Date.now() + retryMs;
    this.#turn("reconnecting");
    if (was === "connected") this.#emit("disconnected", { code, reason, retryMs });
    else void this.#tellFailed(code, reason, Date.now() + retryMs);
  }

  async #tellFailed(code: number, reason: string, retryAt: number | null): Promise<void> {
    this.#why = reason;
    const attempt = ++this.#failures;
    const isHidden = code === 1006 && this.#url.protocol === "wss:" && !this.#options.WebSocket;
    const wrong = isHidden ? await certificateProblem(this.#url) : undefined;
    if (wrong) this.#why = wrong;
    const hint = hintAfter(attempt, this.#url);
    this.#emit("connectFailed", { code, reason: wrong ?? reason, attempt, retryAt, ...(hint && { hint }) });
  }

  #close(code: number, reason: string, error: ClosedError | null): void {
    const was = this.#state;
    this.#unwake();
    this.#welcome = null;
    this.#opening.reject(error ?? new ClosedError(code, reason));
    this.#up.reject(error ?? new ClosedError(code, reason));
    this.#replies.end(error ?? new ClosedError(code, reason));
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

  /** What the gateway agreed to on this connection, if not to JSON. */
  get #encoding(): Encoding | undefined {
    const { encoding } = this.#options;
    return encoding && this.#socket?.protocol === packed(encoding) ? encoding : undefined;
  }

  #send(message: models.ClientMessage): void {
    this.#socket?.send(this.#encoding?.encode(message) ?? toJson(message));
  }

  #receive(data: unknown): void {
    this.#heartbeat.heard();
    let message: models.ServerMessage;
    try {
      message = this.#encoding && data instanceof ArrayBuffer ? this.#encoding.decode(data) : decode(data);
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
        return this.#questions.reply(message) ? undefined : this.#subscribed(message, undefined);
      case "pong":
        this.#routes.pong(message.positions);
        return void this.#questions.reply(message);
      case "subscriptions":
      case "published":
      case "authenticated":
        return void this.#questions.reply(message);
      case "token_expiring":
        return void this.#refresh();
      case "unsubscribed":
        this.#questions.reply(message);
        for (const name of message.denied ? message.channels : []) this.#followed.delete(name);
        return this.#denied(message.denied ?? []);
      case "error":
        // A heartbeat's ping waits for no answer, and any answer is a sign of life.
        if (this.#questions.reply(message) || message.retry_after !== undefined) return;
        return this.#failed(new RequestRefusedError(message));
      case "warning":
        return this.#warn(message.message);
      case "closing":
        this.#closing = message;
    }
  }

  #greeted(message: models.Connected): void {
    clearTimeout(this.#timer);
    this.#welcome = message;
    this.#connectedAt = Date.now();
    this.#failures = 0;
    this.#why = "";
    this.#heartbeat.start(message.heartbeat_seconds * 1000);
    for (const one of this.#routes) {
      if (!message.resumed) {
        one.held = false;
        one.tracks.delete("$personal"); // a new session counts its own anew
      }
      if (!one.held || one.channels.every(isOwn)) this.#ask(one);
    }
    this.#send({ type: "ping" }); // the answer names the epochs of channels nobody subscribes to
    if (!message.resumed) {
      this.#sessions += 1;
      this.#replies.forgotten();
    }
    this.#turn("connected");
    this.#up.resolve();
    this.#soon();
    this.#opening.resolve(message);
    this.#emit("connected", message);
  }

  /** Take where subscriptions begin: those asked for, else all that the session held. */
  #subscribed(message: models.Subscribed, asked: readonly Subscription[] | undefined): void {
    for (const name of message.channels) this.#followed.add(name);
    for (const text of message.warnings ?? []) this.#warn(text);
    this.#denied(message.denied);
    this.#routes.subscribed(message, asked?.filter((one) => this.#routes.has(one)));
    this.#soon(); // some may have been left meanwhile
  }

  /** End what follows channels that are not served to this client, or not any more. */
  #denied(denied: readonly models.Denied[]): void {
    for (const one of denied) {
      const status = one.code === "unauthorized" ? 401 : 403;
      const ended = [...this.#routes].filter(({ channels }) => channels.includes(one.channel));
      this.#refuse(ended, new RequestRefusedError({ ...one, status, temporary: false }));
    }
  }

  #refuse(subscriptions: readonly Subscription[], error: Error): void {
    for (const one of subscriptions) {
      one.end(error);
      this.#leave(one);
      this.#failed(error);
    }
  }

  /** Bring a newer token before the one in use expires. */
  async #refresh(): Promise<void> {
    try {
      const token = await this.#options.token?.();
      if (token === undefined || this.#state !== "connected") return;
      this.#questions.ask({ type: "auth", token }, { answer() {}, fail: (error) => this.#unlessLost(error) });
    } catch (error) {
      this.#failed(error);
    }
  }

  #unlessLost(error: Error): void {
    if (!(error instanceof NotConnectedError)) this.#failed(error);
  }

  // -- subscriptions -----------------------------------------------------------------------------

  #ask(subscription: Subscription): void {
    if (subscription.channels.every(isOwn)) return subscription.begin({});
    this.#unasked.add(subscription);
    this.#soon();
  }

  /** Have all that one turn of the loop asks for travel together. */
  #soon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  /** Bring what the gateway sends to what is wanted. */
  #flush(): void {
    if (this.#state !== "connected" || performance.now() < this.#pausedUntil) return;
    const left = this.#routes.unwanted([...this.#followed]);
    for (let at = 0; at < left.length; at += CHANNELS_MAX) this.#drop(left.slice(at, at + CHANNELS_MAX));
    const wanted = [...this.#unasked].filter((one) => this.#routes.has(one));
    this.#unasked.clear();
    this.#askFor(wanted);
  }

  #drop(channels: string[]): void {
    for (const name of channels) this.#followed.delete(name);
    this.#questions.ask({ type: "unsubscribe", channels }, {
      answer() {},
      fail: (error) => this.#unlessLost(error),
      later: (seconds) => {
        for (const name of channels) this.#followed.add(name);
        this.#pause(seconds);
      },
    });
  }

  #askFor(wanted: readonly Subscription[]): void {
    for (const { subscriptions, requests } of batches(wanted, this.#welcome?.limits.message_bytes_max ?? 0)) {
      this.#questions.ask({ type: "subscribe", channels: [...requests.values()] }, {
        answer: (message) => this.#subscribed(message as models.Subscribed, subscriptions),
        fail: (error) => this.#notServed(subscriptions, error),
        later: (seconds) => {
          for (const one of subscriptions) this.#unasked.add(one);
          this.#pause(seconds);
        },
      });
    }
  }

  /** A message is served whole or not at all: ask for halves, to find the subscription that is refused. */
  #notServed(subscriptions: Subscription[], error: Error): void {
    if (error instanceof NotConnectedError) return;
    const left = subscriptions.filter((one) => this.#routes.has(one));
    if (subscriptions.length === 1) return this.#refuse(left, error);
    this.#askFor(left.slice(0, left.length / 2));
    this.#askFor(left.slice(left.length / 2));
  }

  #pause(seconds: number): void {
    // Not by the clock: if it were set back meanwhile, nothing would be asked for until it has caught up.
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + Math.ceil(seconds * 1000));
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = setTimeout(() => this.#flush(), this.#pausedUntil - performance.now() + 1);
  }

  #request(message: models.Ping | models.GetSubscriptions, signal?: AbortSignal): Promise<models.ServerMessage> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#state !== "connected") return Promise.reject(new NotConnectedError(`the client is ${this.#state}`));
    this.#flush(); // the answer counts what was asked for before
    const answered = new Promise<models.ServerMessage>((answer, fail) => this.#questions.ask(message, { answer, fail }));
    return signal ? unless(answered, { signal }) : answered;
  }

  /** Publish over this connection, unless it was not started or the event is too large for a message. */
  override [OVER_SOCKET](message: Omit<models.Publish, "type">, options: PublishOptions): Promise<Published> | null {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const bytes = new TextEncoder().encode(toJson(message)).length;
    if (this.#isIdle || bytes + ROOM_BYTES > (this.#welcome?.limits.message_bytes_max ?? Infinity)) return null;
    return this.#publishOnce({ type: "publish", ...message }, options, (published) => published);
  }

  /** Publish, and resolve with what follows from the answer, all within the limits of a request. */
  #publishOnce<T>(
    message: models.Publish,
    { signal, timeoutMs = ANSWER_MS }: PublishOptions,
    then: (published: models.Published) => T | Promise<T>,
  ): Promise<T> {
    const request = { over: false };
    const answered = this.#askOnce(message, request).then((answer) => then(answer as models.Published));
    const why = (): string => this.#why || "no answer";
    return unless(answered, { signal, timeoutMs, why, giveUp: () => (request.over = true) });
  }

  /** Ask for something that the gateway does once, however often it is asked: again if the connection is lost. */
  async #askOnce(message: models.ClientMessage, request: { over: boolean }): Promise<models.ServerMessage> {
    for (let asked = 0; ; ) {
      while (this.#state !== "connected") await this.#up.promise;
      if (request.over) return Promise.reject(new NotConnectedError("given up"));
      if (asked && asked !== this.#sessions) {
        throw new NotConnectedError(
          "the connection was lost before the answer, and the gateway restarted or forgot this client: " +
            "what was asked may or may not have been done",
        );
      }
      asked = this.#sessions;
      try {
        return await new Promise((answer, fail) => this.#questions.ask(message, { answer, fail }));
      } catch (error) {
        if (!(error instanceof NotConnectedError)) throw error;
      }
    }
  }

  #leave(subscription: Subscription): void {
    if (this.#routes.remove(subscription)) this.#soon();
  }

  #rewind(subscription: Subscription): void {
    if (!subscription.channels.some(isOwn)) return this.#ask(subscription);
    subscription.end(new Error(`${subscription.channels}: messages were not taken fast enough`));
    this.#leave(subscription);
  }

  #warn(text: string): void {
    const handled = this.#emitter.emit("warning", text, (error) => this.#failed(error));
    if (!handled) console.warn(text);
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
