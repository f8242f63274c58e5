/** What a client needs of a WebSocket; that of browsers, Node 22, Deno, Bun and `ws` are such. */
export interface Socket {
  binaryType?: string;
  readonly protocol?: string;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  /** Of `ws`: end it without waiting for an answer. */
  terminate?(): void;
}

export type NewSocket = new (url: string, protocols?: string[]) => Socket;

/** The WebSocket that there is everywhere but in Node 20 and older. */
export function globalSocket(): NewSocket {
  const found = (globalThis as { WebSocket?: NewSocket }).WebSocket;
  if (found) return found;
  throw new TypeError("there is no global WebSocket here: pass one as the option `WebSocket`");
}
