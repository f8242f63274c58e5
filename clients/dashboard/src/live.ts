import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** The minimum time between two drawings. */
const DRAW_MS = 150;
/** After a drawing, the page waits for this multiple of the time that it took, so that keys and clicks are handled. */
const PAUSE = 3;

/** An object that may change thousands of times per second, and is drawn a few times per second. */
export class Live {
  readonly #listeners = new Set<() => void>();

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Draws the component again after `live` changed. A hidden page draws nothing, as it has no animation frames. */
export function useLive(live: Live | null): void {
  const [, draw] = useState(0);
  const began = useRef(0);
  const cost = useRef(0);
  useLayoutEffect(() => {
    if (began.current) cost.current = performance.now() - began.current;
    began.current = 0;
  });
  useEffect(() => {
    let frame = 0;
    let timer = 0;
    let last = 0;
    const off = live?.onChange(() => {
      if (timer || frame) return;
      const pause = Math.max(DRAW_MS, PAUSE * cost.current);
      timer = window.setTimeout(() => {
        timer = 0;
        frame = requestAnimationFrame(() => {
          frame = 0;
          began.current = last = performance.now();
          draw((count) => count + 1);
        });
      }, Math.max(0, pause - (performance.now() - last)));
    });
    return () => {
      off?.();
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  }, [live]);
}
