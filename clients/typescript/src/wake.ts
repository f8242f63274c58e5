interface Target {
  addEventListener?(name: string, listener: () => void): void;
  removeEventListener?(name: string, listener: () => void): void;
}

/**
 * Call `woke` when the page is seen, thawed or online again; returns what ends that.
 *
 * Where there is no page, as in Node, nothing ever calls it.
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
