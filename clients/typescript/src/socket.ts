/** The part of a WebSocket that a client uses; browsers, Node 22, Deno, Bun and the package `ws` have it. */
export interface Socket {
  binaryType?: string;
  readonly protocol?: string;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  /** Only in `ws`: closes the connection without waiting for the peer. */
  terminate?(): void;
}

export type NewSocket = new (url: string, protocols?: string[]) => Socket;

/** Returns the global WebSocket, which only Node 20 and older lack. */
export function globalSocket(): NewSocket {
  const found = (globalThis as { WebSocket?: NewSocket }).WebSocket;
  if (found) return found;
  throw new TypeError("there is no global WebSocket here: pass a class, such as that of the package `ws`, as the option `WebSocket`");
}
