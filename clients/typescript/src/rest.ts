import { NotConnectedError, RequestRefusedError } from "./errors.js";
import type { Gap, Position, Publish } from "./models.js";
import type { Event } from "./events.js";
import { decode, toJson } from "./decode.js";
import { randomKey } from "./key.js";

/** Options of every request. */
export interface RequestOptions {
  signal?: AbortSignal;
}

/** A part of a channel's history; `next` is the `since` of the next part. */
export interface History {
  /** The epoch of an event is "" if the answer does not name it. */
  items: (Event | Gap)[];
  next: Position;
  /** What is missing before the first item. */
  gap: Gap | null;
}

/** A channel as the gateway describes it. */
export interface ChannelInfo {
  name: string;
  description: string;
  standard: boolean;
  subscribers: number;
  position: Position;
  events: number;
  bytes: number;
  start: Position;
}

/** Who is subscribed to a channel; `clients` is null if the caller may not see them. */
export interface Presence {
  channel: string;
  subscribers: number;
  users: number;
  clients: { client_id: string; user_id: string | null }[] | null;
}

/** The result of publishing an event. */
export interface Published {
  /** How many clients subscribe to its channel. */
  recipients: number;
  position: Position;
  /** Whether a process on the bus subscribes to the channel; null if the channel is not published on the bus. */
  bus: boolean | null;
}

export interface PublishOptions extends RequestOptions {
  eventType?: string;
  timeoutMs?: number;
  /** Refuse the event if it has no recipient: no process on the bus if the channel is published there, else no client. */
  mandatory?: boolean;
}

export const OVER_SOCKET = Symbol("publish over the connection");

const API = "api/v1/websocket/";

/** Requests over HTTP, independent of each other: publishing events, and reading the gateway's state. */
export abstract class Rest {
  readonly #base: URL;
  readonly #token: (() => string | Promise<string>) | undefined;

  constructor(websocket: URL, token: (() => string | Promise<string>) | undefined) {
    this.#base = new URL(websocket);
    this.#base.protocol = this.#base.protocol.replace("ws", "http");
    this.#base.pathname = this.#base.pathname.replace(/ws$/, API);
    this.#base.search = "";
    this.#token = token;
  }

  /**
   * Publishes on a channel: an event object if `eventType` is given, else `data` unchanged.
   *
   * A client that was started publishes over its connection: if that is lost before the answer, the client sends the
   * event again on the next one, and the gateway publishes it once. Rejects without an answer in `timeoutMs` (10 000).
   */
  async publish(channel: string, data: unknown, options: PublishOptions = {}): Promise<Published> {
    const { eventType, mandatory, signal } = options;
    const event = eventType === undefined ? data : { event_type: eventType, data };
    const message = { channel, event, idempotency_key: randomKey(), ...(mandatory && { mandatory }) };
    const { recipients, position, bus } =
      (await this[OVER_SOCKET](message, options)) ?? (await this.#request<Published>("broadcast", signal, message));
    return { recipients, position, bus: bus ?? null };
  }

  /** Publishes over the connection; null if that is not possible. */
  [OVER_SOCKET](_message: Omit<Publish, "type">, _options: PublishOptions): Promise<Published> | null {
    return null;
  }

  /** Sends an event to a client, to all clients of a user, or to everyone; returns the number of clients. */
  async broadcast(
    eventType: string,
    data: unknown,
    options: RequestOptions & { clientId?: string; userId?: string } = {},
  ): Promise<number> {
    const { clientId, userId, signal } = options;
    const to = clientId !== undefined ? { client_id: clientId } : userId !== undefined ? { user_id: userId } : { everyone: true };
    const body = { ...to, event: { event_type: eventType, data } };
    return (await this.#request<{ recipients: number }>("broadcast", signal, body)).recipients;
  }

  /** Returns the newest events of a channel, or those after a position; `limit` is at most 1 000. */
  async history(
    channel: string,
    options: RequestOptions & { since?: Position; limit?: number } = {},
  ): Promise<History> {
    const { since, limit = 100, signal } = options;
    const query = new URLSearchParams({ limit: String(limit), ...(since && { since: textOf(since) }) });
    const path = `channels/${encodeURIComponent(channel)}/events?${query}`;
    const answer = await this.#request<{ events: (Event | Gap)[]; next: Position; gap: Gap | null }>(path, signal);
    const named = answer.events.some((one) => one.epoch !== undefined);
    let epoch = since && !answer.gap ? since.epoch : named ? "" : answer.next.epoch;
    const items = answer.events.map((one) => {
      epoch = one.epoch ?? epoch;
      return one.type === "gap" ? one : ({ ...decode(JSON.stringify(one)), epoch } as Event);
    });
    return { items, next: answer.next, gap: answer.gap };
  }

  /** Returns the open channels that this client may see. */
  async channels({ signal }: RequestOptions = {}): Promise<ChannelInfo[]> {
    return (await this.#request<{ channels: ChannelInfo[] }>("channels", signal)).channels;
  }

  /** Returns who is subscribed to a channel. */
  async presence(channel: string, { signal }: RequestOptions = {}): Promise<Presence> {
    return this.#request(`channels/${encodeURIComponent(channel)}/presence`, signal);
  }

  /** Returns the gateway's status document. */
  async status({ signal }: RequestOptions = {}): Promise<Record<string, unknown>> {
    return this.#request("status", signal);
  }

  async #request<Answer>(path: string, signal?: AbortSignal, body?: object): Promise<Answer> {
    const token = await this.#token?.();
    const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    if (body) headers["Content-Type"] = "application/json";
    const init = { headers, ...(signal && { signal }), ...(body && { method: "POST", body: toJson(body) }) };
    let answer: Response;
    try {
      answer = await fetch(new URL(path, this.#base), init);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new NotConnectedError(`${this.#base.origin} was not reached: ${String((error as Error).cause ?? error)}`);
    }
    const text = await answer.text();
    if (answer.ok) return JSON.parse(text) as Answer;
    throw new RequestRefusedError({ ...problem(text), status: answer.status, temporary: answer.status === 503 });
  }
}

/** A position as text, for URLs. */
function textOf({ epoch, offset, others = {} }: Position): string {
  return [[epoch, offset], ...Object.entries(others)].flat().join(":");
}

/** The code and text of a refusal, by the gateway or by a proxy in front of it. */
function problem(text: string): { code: string; message: string } {
  try {
    const { code, detail } = JSON.parse(text) as { code?: string; detail?: string };
    if (code !== undefined) return { code, message: detail ?? "" };
  } catch {
    // not JSON
  }
  return { code: "unknown", message: text.slice(0, 200) };
}
