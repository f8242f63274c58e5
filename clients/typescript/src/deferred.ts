import { NotConnectedError } from "./errors.js";

/** A promise with the functions that settle it. A rejection without a handler is ignored. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

export function deferred<T>(): Deferred<T> {
  const made = {} as Deferred<T>;
  made.promise = new Promise<T>((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {});
  return made;
}

/**
 * Settles as `promise`, unless it takes too long or a signal aborts: then it rejects, and calls `giveUp`.
 *
 * `late` returns the text of the error after a timeout.
 */
export function withLimits<T>(
  promise: Promise<T>,
  { signal, timeoutMs, giveUp, late }: {
    signal: AbortSignal | undefined;
    timeoutMs?: number | undefined;
    giveUp?(): void;
    late?(timeoutMs: number): string;
  },
): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = (error: Error): void => {
      reject(error);
      giveUp?.();
    };
    const abort = (): void => end(signal?.reason as Error);
    const timeout = (ms: number): void => end(new NotConnectedError(late?.(ms) ?? `not done within ${ms} ms`));
    const timer = timeoutMs === undefined ? undefined : setTimeout(timeout, timeoutMs, timeoutMs);
    signal?.addEventListener("abort", abort, { once: true });
    void promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    });
  });
}
