import type { EventMessage, ServerMessage } from "./models.js";

const utf8 = new TextDecoder();

/**
 * What a WebSocket message says. The data of an event that carries bytes is a Uint8Array.
 *
 * A binary message is the length of a header in 4 bytes, the header as JSON, and the bytes.
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
