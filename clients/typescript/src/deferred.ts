import { NotConnectedError } from "./errors.js";

/** A promise, and what settles it. A rejection that nobody waits for bothers nobody. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

/** Make one. */
export function deferred<T>(): Deferred<T> {
  const made = {} as Deferred<T>;
  made.promise = new Promise<T>((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {});
  return made;
}

/** The same promise, unless it takes too long or a signal aborts: then it rejects, after `giveUp` was called. */
export function unless<T>(
  promise: Promise<T>,
  { signal, timeoutMs, giveUp, why }: {
    signal: AbortSignal | undefined;
    timeoutMs?: number | undefined;
    giveUp?(): void;
    why?(): string;
  },
): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = (error: Error): void => {
      reject(error);
      giveUp?.();
    };
    const abort = (): void => end(signal?.reason as Error);
    const late = (): void => end(new NotConnectedError(`no connection in ${timeoutMs} ms: ${why?.() ?? ""}`));
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
    signal?.addEventListener("abort", abort, { once: true });
    void promise.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    });
  });
}
