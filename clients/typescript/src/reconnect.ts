import { CloseCode, type ClosingMessage } from "./models.js";

/** Close codes after which the client does not reconnect, as it would fail again; besides 4500 to 4999. */
const FINAL: readonly number[] = [
  CloseCode.PROTOCOL_ERROR,
  CloseCode.BINARY,
  CloseCode.INVALID_TEXT,
  CloseCode.TOO_LARGE,
];

const PROBE_MS = 2_000;

/** A random pause before the next attempt: at most `first` milliseconds, doubled after each failure up to `most`. */
export function delayAfter(attempt: number, [first, most]: readonly [number, number]): number {
  return Math.random() * Math.min(most, first * 2 ** attempt);
}

/** Whether to reconnect after a close: as the gateway's `closing` message says, else as the code's range says. */
export function mayReconnect(code: number, closing: ClosingMessage | null): boolean {
  if (closing) return closing.reconnect;
  return !(code >= 4500 && code <= 4999) && !FINAL.includes(code);
}

/** What to check after several failed attempts of a page: browsers hide the reason. */
export function hintAfter(failures: number, { protocol, host }: URL): string | undefined {
  const { document, location } = globalThis as { document?: unknown; location?: { origin: string } };
  if (failures < 3 || !document || !location) return undefined;
  const origin = `if the gateway runs at this address, add ${JSON.stringify(location.origin)} to its setting \`allowed_origins\``;
  return protocol === "wss:" ? `${origin}; open https://${host} to see whether its certificate is trusted` : origin;
}

/** The problem with the gateway's certificate; undefined if there is none. Node's WebSocket hides it, Node's `fetch` does not. */
export async function certificateProblem({ host }: URL): Promise<string | undefined> {
  if ("document" in globalThis) return undefined;
  try {
    await fetch(`https://${host}/healthz`, { method: "HEAD", signal: AbortSignal.timeout(PROBE_MS) });
  } catch (error) {
    const { message } = ((error as Error).cause ?? error) as Error;
    if (!/certificate/i.test(message)) return undefined;
    return `the gateway's certificate is not trusted: ${message}; if you trust it, set NODE_EXTRA_CA_CERTS to its file`;
  }
}
