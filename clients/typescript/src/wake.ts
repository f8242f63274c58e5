interface Target {
  addEventListener?(name: string, listener: () => void): void;
  removeEventListener?(name: string, listener: () => void): void;
}

/**
 * Calls `woke` when the page becomes visible, is unfrozen or is online again; returns a function that stops that.
 *
 * Outside of pages, as in Node, `woke` is never called.
 */
export function onWake(woke: () => void): () => void {
  const scope = globalThis as Target & { document?: Target & { visibilityState?: string } };
  const page = scope.document;
  const seen = (): void => {
    if (page?.visibilityState === "visible") woke();
  };
  const wanted: [Target | undefined, string, () => void][] = [
    [page, "visibilitychange", seen],
    [page, "resume", woke],
    [scope, "pageshow", woke],
    [scope, "online", woke],
  ];
  for (const [target, name, listener] of wanted) target?.addEventListener?.(name, listener);
  return () => {
    for (const [target, name, listener] of wanted) target?.removeEventListener?.(name, listener);
  };
}
