import type { EventMessage, ServerMessage } from "./models.js";

const utf8 = new TextDecoder();

/** An encoding in place of JSON, for both directions; each message is one binary WebSocket message. */
export interface Encoding {
  readonly name: string;
  decode(data: ArrayBuffer): ServerMessage;
  encode(message: unknown): Uint8Array<ArrayBuffer>;
}

/** Encodes a message as JSON; an event that is bytes, or whose `data` are bytes, has them in base64. */
export function toJson(message: object): string {
  let { event } = message as { event?: unknown };
  if (event instanceof Uint8Array) event = { data: event };
  const { data, ...others } = (event ?? {}) as { data?: unknown };
  if (!(data instanceof Uint8Array)) return JSON.stringify(message);
  const text = Array.from(data, (one) => String.fromCharCode(one)).join("");
  return JSON.stringify({ ...message, event: { ...others, data_base64: btoa(text) } });
}

/**
 * Decodes a WebSocket message. The data of an event that carries bytes are a Uint8Array.
 *
 * A binary message has the length of its header in 4 bytes, the header as JSON, and the bytes.
 */
export function decode(data: unknown): ServerMessage {
  if (data instanceof ArrayBuffer) {
    const size = new DataView(data).getUint32(0);
    const event = JSON.parse(utf8.decode(new Uint8Array(data, 4, size))) as EventMessage;
    event.data = new Uint8Array(data, 4 + size);
    return event;
  }
  const message = JSON.parse(data as string) as ServerMessage;
  if (message.type === "event" && message.data_base64 !== undefined && message.data === undefined) {
    message.data = Uint8Array.from(atob(message.data_base64), (one) => one.charCodeAt(0));
    delete message.data_base64;
  }
  return message;
}
