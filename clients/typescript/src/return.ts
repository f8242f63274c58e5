import { CloseCode, type ClosingMessage } from "./models.js";

/** Codes after which the same client would fail again; so it is with 4500 to 4999. */
const FINAL: readonly number[] = [
  CloseCode.PROTOCOL_ERROR,
  CloseCode.BINARY,
  CloseCode.INVALID_TEXT,
  CloseCode.TOO_LARGE,
];

const PROBE_MS = 2_000;

/** A random pause before the next try: up to `first` milliseconds, then doubling up to `most`. */
export function delayAfter(attempt: number, [first, most]: readonly [number, number]): number {
  return Math.random() * Math.min(most, first * 2 ** attempt);
}

/** Whether to come back after a close: as the gateway has said, else as the code's range says. */
export function mayReturn(code: number, closing: ClosingMessage | null): boolean {
  if (closing) return closing.reconnect;
  return !(code >= 4500 && code <= 4999) && !FINAL.includes(code);
}

/** What to check, where a page's attempts have failed so often: the browser hides why. */
export function hintAfter(failures: number, { protocol, host }: URL): string | undefined {
  const { document, location } = globalThis as { document?: unknown; location?: { origin: string } };
  if (failures < 3 || !document || !location) return undefined;
  const origin = `if the gateway runs at this address, add ${JSON.stringify(location.origin)} to its setting \`allowed_origins\``;
  return protocol === "wss:" ? `${origin}; open https://${host} to see whether its certificate is trusted` : origin;
}

/** What is wrong with the gateway's certificate; undefined if nothing is. Node's WebSocket hides it, and its `fetch` does not. */
export async function certificateProblem({ host }: URL): Promise<string | undefined> {
  if ("document" in globalThis) return undefined;
  try {
    await fetch(`https://${host}/healthz`, { method: "HEAD", signal: AbortSignal.timeout(PROBE_MS) });
  } catch (error) {
    const { message } = ((error as Error).cause ?? error) as Error;
    if (!/certificate/i.test(message)) return undefined;
    return `the gateway's certificate is not trusted: ${message}; if it is the right one, name its file in NODE_EXTRA_CA_CERTS`;
  }
}
