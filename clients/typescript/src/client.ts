/// <reference lib="esnext.disposable" preserve="true" />
import { addressOf, resuming } from "./address.js";
import { CHANNELS_MAX, batches } from "./batches.js";
import { isOwn } from "./channels.js";
import { decode, toJson, type Encoding } from "./decode.js";
import { deferred, withLimits } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { ClosedError, NotConnectedError, RequestRefusedError } from "./errors.js";
import type { Event, ItemOf } from "./events.js";
import type * as models from "./models.js";
import type { ClientEvents, ClientOptions, ConnectOptions, State } from "./options.js";
import { Heartbeat } from "./heartbeat.js";
import { Requests } from "./requests.js";
import { randomKey } from "./key.js";
import { Replies } from "./replies.js";
import { OVER_SOCKET, Rest, type Published, type PublishOptions, type RequestOptions } from "./rest.js";
import { certificateProblem, delayAfter, hintAfter, mayReconnect } from "./reconnect.js";
import { Routes } from "./routes.js";
import { type NewSocket, type Socket, globalSocket } from "./socket.js";
import { type SubscribeOptions, Subscription } from "./subscription.js";
import { onWake } from "./wake.js";

const PROTOCOL = "neurograph";
const BUFFER = 10_000;
const BACKOFF_MS = [500, 20_000] as const;
/** A connection attempt ends after this time without a `connected` message. */
const CONNECT_MS = 10_000;
/** How long to wait for the close event after an error event. */
const CLOSE_MS = 100;
/** After a connection that lasted this long, the backoff starts again from its first pause. */
const STEADY_MS = 10_000;
/** The default timeout of `publish` and `request`. */
const ANSWER_MS = 10_000;
/** The size of a publish message without the event. */
const ROOM_BYTES = 256;

/** The WebSocket subprotocol whose messages have an encoding other than JSON. */
const packed = ({ name }: Encoding): string => `${PROTOCOL}.${name}`;

/** Subscribes to channels of one gateway, over one connection that it replaces whenever it is lost. */
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
  /** Resolves once connected; rejects if the client closes before. */
  #up = deferred<void>();
  /** How many sessions the client has had: a new one means that the gateway has lost the earlier one. */
  #sessions = 0;
  #unwake = (): void => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  /** How many attempts in a row have failed; `#failureReason` says why the last one did. */
  #failures = 0;
  #failureReason = "";
  #retryAt: number | null = null;
  /** The number of this attempt to connect: results of earlier ones are ignored. */
  #generation = 0;
  #connectedAt = 0;
  #waitsUntil = 0;
  #welcome: models.Connected | null = null;
  #closing: models.ClosingMessage | null = null;

  readonly #replies = new Replies((take) => this.subscribe("$personal", take));
  readonly #routes = new Routes();
  readonly #requests = new Requests((message) => this.#send(message));
  /** The names and patterns that the gateway has subscribed for this connection. */
  readonly #subscribedNames = new Set<string>();
  /** Subscriptions to request with the next message. */
  readonly #queued = new Set<Subscription>();
  #flushing = false;
  /** Until when to send no request to subscribe or unsubscribe, because of the gateway's rate limit. */
  #pausedUntil = 0;
  /** Clients with further connections: a connection has only one filter and rate for each name. */
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

  /** The gateway's newest `connected` message; null before the first one and after the end. */
  get info(): models.Connected | null {
    return this.#welcome;
  }

  /** When the next attempt to connect begins, in ms since 1970; null unless the state is `reconnecting`. */
  get retryAt(): number | null {
    return this.#state === "reconnecting" ? this.#retryAt : null;
  }

  /** Calls `listener` on each event of this name; returns a function that removes it. */
  on<Name extends keyof ClientEvents>(
    name: Name,
    listener: (value: ClientEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  /**
   * Connects, and stays connected until `disconnect`, or until the gateway closes with a code that forbids to reconnect.
   *
   * Resolves with the first `connected` message; rejects with a ClosedError. Failed attempts are repeated: see the
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
      for (const other of this.#others) other.connect().catch(() => {}); // reported by the event `error`
    }
    const { promise } = this.#opening;
    if (!signal && timeoutMs === undefined) return promise;
    return withLimits(promise, { signal, timeoutMs, giveUp: () => this.disconnect(), late: (ms) => this.#tooLate(ms) });
  }

  /** Ends the connection and all subscriptions; no timer or listener remains. */
  disconnect(): void {
    for (const other of this.#others) other.disconnect();
    if (this.#isIdle) return;
    this.#detach()?.close(1000);
    this.#close(1000, "disconnect", null);
  }

  /**
   * Subscribes to channels, or to all that patterns select: `*` is one segment, a final `>` one or more.
   *
   * A handler is called with each event, once and in order. Without a handler, iterate the returned
   * subscription. Subscriptions to one name with different filters or rates each use a connection of their own.
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
    if (names.length === 0) throw new TypeError("`channels` is empty: name at least one channel or pattern");
    if (typeof handler === "object") [handler, options] = [undefined, handler];
    options.signal?.throwIfAborted();
    if (this.#routes.conflict(names, options)) {
      return this.#clientFor(names, options).subscribe(names, handler as (item: Event) => unknown, options);
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
    if (this.#state === "connected") this.#queue(subscription);
    return subscription;
  }

  /** Returns a further client whose connection has no conflicting filter or rate for these names. */
  #clientFor(names: readonly string[], options: SubscribeOptions): Client {
    const free = this.#others.find((one) => !one.#routes.conflict(names, options));
    if (free) return free;
    const made = new Client(this.#url, this.#options);
    made.on("gap", (gap) => this.#emit("gap", gap));
    made.on("warning", (text) => this.#warn(text));
    made.on("error", (error) => this.#failed(error));
    this.#others.push(made);
    if (!this.#isIdle) made.connect().catch(() => {}); // reported by the event `error`
    return made;
  }

  /**
   * Publishes an event that requests an answer; resolves with the answer, the first event that is sent back for it.
   *
   * Rejects with a RequestRefusedError (`no_subscribers`: nobody is subscribed), a NotConnectedError (no answer within
   * `timeoutMs`, 10 000; or the gateway restarted or the session expired before it), or a ClosedError.
   */
  async request(channel: string, data: unknown, options: PublishOptions = {}): Promise<Event> {
    const { eventType = "request", signal } = options;
    if (signal?.aborted) throw signal.reason;
    if (this.#isIdle) throw new NotConnectedError(`the client is ${this.#state}: call \`connect\` first`);
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

  /** Sends a ping; returns the round-trip time in milliseconds. */
  async ping({ signal }: RequestOptions = {}): Promise<number> {
    const start = performance.now();
    await this.#request({ type: "ping" }, signal);
    return performance.now() - start;
  }

  /** Requests the channels and patterns to which the gateway has subscribed this client. */
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
      () => this.#lost(4001, `the gateway sent no \`connected\` message within ${CONNECT_MS} ms`, { terminate: true }),
      CONNECT_MS,
    );
    this.#setState("connecting");
    try {
      const token = await this.#options.token?.();
      if (generation !== this.#generation) return;
      const session = this.#welcome?.session;
      const url = session === undefined ? this.#url.href : resuming(this.#url, session, this.#routes.reached);
      // A browser's WebSocket cannot send headers: the token is sent as a further subprotocol.
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
    this.#failureReason = "";
    socket.onerror = (event: { message?: string } | undefined) => {
      if (socket !== this.#socket) return;
      this.#failureReason = event?.message ?? ""; // browsers give no reason
      // A close event with a code follows, except in Node 20 after a refused connection.
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#lost(1006, ""), CLOSE_MS);
    };
  }

  /** Detaches the socket, whose further messages are ignored, and returns it. */
  #detach(): Socket | null {
    this.#generation += 1;
    if (this.#state === "connected") this.#up = deferred();
    clearTimeout(this.#timer);
    this.#heartbeat.stop();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onmessage = socket.onclose = null;
    this.#routes.pause();
    this.#subscribedNames.clear();
    this.#queued.clear();
    this.#pausedUntil = 0;
    clearTimeout(this.#pauseTimer);
    this.#requests.end();
    return socket;
  }

  #lost(code: number, reason: string, { terminate = false } = {}): void {
    const socket = this.#detach();
    if (terminate && socket) (socket.terminate ?? socket.close).call(socket);
    const was = this.#state;
    if (was === "connected" && Math.abs(Date.now() - this.#connectedAt) > STEADY_MS) {
      this.#attempt = 0;
    }
    reason = this.#closing?.reason || reason || this.#failureReason || "the connection failed";
    if (!mayReconnect(code, this.#closing)) {
      if (was === "connecting") void this.#reportFailure(code, reason, null);
      return this.#close(code, reason, new ClosedError(code, reason));
    }
    const asked = this.#closing?.after_ms ?? 0;
    const retryMs = Math.max(asked, delayAfter(this.#attempt++, this.#options.backoffMs ?? BACKOFF_MS));
    // A page that becomes visible or online meanwhile reconnects at once, but not before the gateway's own delay.
    this.#waitsUntil = Date.now() + asked;
    this.#timer = setTimeout(() => void this.#open(), retryMs);
    this.#retryAt = Date.now() + retryMs;
    this.#setState("reconnecting");
    if (was === "connected") this.#emit("disconnected", { code, reason, retryMs });
    else void this.#reportFailure(code, reason, Date.now() + retryMs);
  }

  async #reportFailure(code: number, reason: string, retryAt: number | null): Promise<void> {
    this.#failureReason = reason;
    const attempt = ++this.#failures;
    const isHidden = code === 1006 && this.#url.protocol === "wss:" && !this.#options.WebSocket;
    const wrong = isHidden ? await certificateProblem(this.#url) : undefined;
    if (wrong) this.#failureReason = wrong;
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
    this.#setState("closed");
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

  #setState(state: State): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", state);
  }

  // -- messages ----------------------------------------------------------------------------------

  /** The encoding that the gateway accepted for this connection; undefined for JSON. */
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
        return this.#onConnected(message);
      case "subscribed":
        return this.#requests.reply(message) ? undefined : this.#subscribed(message, undefined);
      case "pong":
        this.#routes.pong(message.positions);
        return void this.#requests.reply(message);
      case "subscriptions":
      case "published":
      case "authenticated":
        return void this.#requests.reply(message);
      case "token_expiring":
        return void this.#refresh();
      case "unsubscribed":
        this.#requests.reply(message);
        for (const name of message.denied ? message.channels : []) this.#subscribedNames.delete(name);
        return this.#denied(message.denied ?? []);
      case "error":
        // An answer to the heartbeat's ping has no request: even an error shows that the connection works.
        if (this.#requests.reply(message) || message.retry_after !== undefined) return;
        return this.#failed(new RequestRefusedError(message));
      case "warning":
        return this.#warn(message.message);
      case "closing":
        this.#closing = message;
    }
  }

  #onConnected(message: models.Connected): void {
    clearTimeout(this.#timer);
    this.#welcome = message;
    this.#connectedAt = Date.now();
    this.#failures = 0;
    this.#failureReason = "";
    this.#heartbeat.start(message.heartbeat_seconds * 1000);
    for (const one of this.#routes) {
      if (!message.resumed) {
        one.held = false;
        one.tracks.delete("$personal"); // a new session numbers its personal messages from 1
      }
      if (!one.held || one.channels.every(isOwn)) this.#queue(one);
    }
    this.#send({ type: "ping" }); // the pong has the epochs of `$personal` and `$everyone`, without a subscription
    if (!message.resumed) {
      this.#sessions += 1;
      this.#replies.forgotten();
    }
    this.#setState("connected");
    this.#up.resolve();
    this.#scheduleFlush();
    this.#opening.resolve(message);
    this.#emit("connected", message);
  }

  /** Starts subscriptions at the message's positions: those that were `asked` for, or all that the session had. */
  #subscribed(message: models.Subscribed, asked: readonly Subscription[] | undefined): void {
    for (const name of message.channels) this.#subscribedNames.add(name);
    for (const text of message.warnings ?? []) this.#warn(text);
    this.#denied(message.denied);
    this.#routes.subscribed(message, asked?.filter((one) => this.#routes.has(one)));
    this.#scheduleFlush(); // some may have been closed meanwhile
  }

  /** Ends subscriptions whose channels this client may not, or no longer, subscribe to. */
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

  /** Sends a newer token before the current one expires. */
  async #refresh(): Promise<void> {
    try {
      const token = await this.#options.token?.();
      if (token === undefined || this.#state !== "connected") return;
      this.#requests.send({ type: "auth", token }, { answer() {}, fail: (error) => this.#reportUnlessLost(error) });
    } catch (error) {
      this.#failed(error);
    }
  }

  #reportUnlessLost(error: Error): void {
    if (!(error instanceof NotConnectedError)) this.#failed(error);
  }

  // -- subscriptions -----------------------------------------------------------------------------

  #queue(subscription: Subscription): void {
    if (subscription.channels.every(isOwn)) return subscription.begin({});
    this.#queued.add(subscription);
    this.#scheduleFlush();
  }

  /** Sends all that one turn of the event loop requests in as few messages as possible. */
  #scheduleFlush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  /** Unsubscribes names that no subscription uses any more, and subscribes those that are queued. */
  #flush(): void {
    if (this.#state !== "connected" || performance.now() < this.#pausedUntil) return;
    const left = this.#routes.unwanted([...this.#subscribedNames]);
    for (let at = 0; at < left.length; at += CHANNELS_MAX) this.#drop(left.slice(at, at + CHANNELS_MAX));
    const wanted = [...this.#queued].filter((one) => this.#routes.has(one));
    this.#queued.clear();
    this.#sendSubscribes(wanted);
  }

  #drop(channels: string[]): void {
    for (const name of channels) this.#subscribedNames.delete(name);
    this.#requests.send({ type: "unsubscribe", channels }, {
      answer() {},
      fail: (error) => this.#reportUnlessLost(error),
      later: (seconds) => {
        for (const name of channels) this.#subscribedNames.add(name);
        this.#pause(seconds);
      },
    });
  }

  #sendSubscribes(wanted: readonly Subscription[]): void {
    for (const { subscriptions, requests } of batches(wanted, this.#welcome?.limits.message_bytes_max ?? 0)) {
      this.#requests.send({ type: "subscribe", channels: [...requests.values()] }, {
        answer: (message) => this.#subscribed(message as models.Subscribed, subscriptions),
        fail: (error) => this.#splitRefused(subscriptions, error),
        later: (seconds) => {
          for (const one of subscriptions) this.#queued.add(one);
          this.#pause(seconds);
        },
      });
    }
  }

  /** The gateway refuses a message as a whole: sends its halves, to find the subscription that it refuses. */
  #splitRefused(subscriptions: Subscription[], error: Error): void {
    if (error instanceof NotConnectedError) return;
    const left = subscriptions.filter((one) => this.#routes.has(one));
    if (subscriptions.length === 1) return this.#refuse(left, error);
    this.#sendSubscribes(left.slice(0, left.length / 2));
    this.#sendSubscribes(left.slice(left.length / 2));
  }

  #pause(seconds: number): void {
    // Not `Date.now()`: if the clock were set back meanwhile, no request would be sent until it has caught up.
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + Math.ceil(seconds * 1000));
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = setTimeout(() => this.#flush(), this.#pausedUntil - performance.now() + 1);
  }

  #request(message: models.Ping | models.GetSubscriptions, signal?: AbortSignal): Promise<models.ServerMessage> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#state !== "connected") return Promise.reject(new NotConnectedError(`the client is ${this.#state}, not connected`));
    this.#flush(); // so that the answer includes subscriptions that were made before
    const answered = new Promise<models.ServerMessage>((answer, fail) => this.#requests.send(message, { answer, fail }));
    return signal ? withLimits(answered, { signal }) : answered;
  }

  /** Publishes over this connection; null if it was not started, or if the event is too large for a message. */
  override [OVER_SOCKET](message: Omit<models.Publish, "type">, options: PublishOptions): Promise<Published> | null {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const bytes = new TextEncoder().encode(toJson(message)).length;
    if (this.#isIdle || bytes + ROOM_BYTES > (this.#welcome?.limits.message_bytes_max ?? Infinity)) return null;
    return this.#publishOnce({ type: "publish", ...message }, options, (published) => published);
  }

  /** Publishes, and resolves with the result of `then` for the answer, within the timeout and the signal. */
  #publishOnce<T>(
    message: models.Publish,
    { signal, timeoutMs = ANSWER_MS }: PublishOptions,
    then: (published: models.Published) => T | Promise<T>,
  ): Promise<T> {
    const request = { over: false };
    const answered = this.#sendOnce(message, request).then((answer) => then(answer as models.Published));
    const late = (ms: number): string => this.#tooLate(ms);
    return withLimits(answered, { signal, timeoutMs, late, giveUp: () => (request.over = true) });
  }

  #tooLate(ms: number): string {
    if (this.#state === "connected") return `the gateway did not answer within ${ms} ms`;
    return `no connection in ${ms} ms: ${this.#failureReason || "the gateway did not answer"}`;
  }

  /** Sends a message that the gateway executes once even if it gets it twice: again if the connection is lost. */
  async #sendOnce(message: models.ClientMessage, request: { over: boolean }): Promise<models.ServerMessage> {
    for (let asked = 0; ; ) {
      while (this.#state !== "connected") await this.#up.promise;
      if (request.over) return Promise.reject(new NotConnectedError("the request was given up before it was sent"));
      if (asked && asked !== this.#sessions) {
        throw new NotConnectedError(
          "the connection was lost before the answer, and the gateway restarted or forgot this client: " +
            "the request may or may not have been done",
        );
      }
      asked = this.#sessions;
      try {
        return await new Promise((answer, fail) => this.#requests.send(message, { answer, fail }));
      } catch (error) {
        if (!(error instanceof NotConnectedError)) throw error;
      }
    }
  }

  #leave(subscription: Subscription): void {
    if (this.#routes.remove(subscription)) this.#scheduleFlush();
  }

  #rewind(subscription: Subscription): void {
    if (!subscription.channels.some(isOwn)) return this.#queue(subscription);
    const text = `${subscription.channels}: more than ${this.#options.buffer ?? BUFFER} messages waited; iterate faster, or raise \`buffer\``;
    subscription.end(new Error(text));
    this.#leave(subscription);
  }

  #warn(text: string): void {
    const handled = this.#emitter.emit("warning", text, (error) => this.#failed(error));
    if (!handled) console.warn(text);
  }

  #emit<Name extends keyof ClientEvents>(name: Name, value: ClientEvents[Name]): void {
    this.#emitter.emit(name, value, (error) => this.#failed(error));
  }

  /** Emits an error; without a listener, writes it to the console. */
  #failed(error: unknown): void {
    const handled = this.#emitter.emit("error", error, (again) => console.error(again));
    if (!handled) console.error(error);
  }
}
