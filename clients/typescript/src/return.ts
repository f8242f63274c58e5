import type { ClosingMessage } from "./models.js";

const FIRST_MS = 500;
const MOST_MS = 20_000;

/** A random pause before the next try: up to 500 ms at first, then doubling up to 20 s. */
export function delayAfter(attempt: number): number {
  return Math.random() * Math.min(MOST_MS, FIRST_MS * 2 ** attempt);
}

/** Whether to come back after a close: as the gateway has said, else as the code's range says. */
export function mayReturn(code: number, closing: ClosingMessage | null): boolean {
  if (closing) return closing.reconnect;
  return !(code >= 4500 && code <= 4999) && ![1002, 1003, 1007, 1009].includes(code);
}
