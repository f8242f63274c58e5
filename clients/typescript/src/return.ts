import type { ClosingMessage } from "./models.js";

/** A random pause before the next try: up to `first` milliseconds, then doubling up to `most`. */
export function delayAfter(attempt: number, [first, most]: readonly [number, number]): number {
  return Math.random() * Math.min(most, first * 2 ** attempt);
}

/** Whether to come back after a close: as the gateway has said, else as the code's range says. */
export function mayReturn(code: number, closing: ClosingMessage | null): boolean {
  if (closing) return closing.reconnect;
  return !(code >= 4500 && code <= 4999) && ![1002, 1003, 1007, 1009].includes(code);
}
