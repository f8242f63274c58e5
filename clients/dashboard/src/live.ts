import { useEffect, useState } from "preact/hooks";

/** The shortest time between two drawings, however often something changes. */
const DRAW_MS = 150;

/** Something that may change thousands of times a second, and is drawn a few times. */
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

/** Draw the component again after `live` changed. A hidden page draws nothing: it has no animation frames. */
export function useLive(live: Live | null): void {
  const [, draw] = useState(0);
  useEffect(() => {
    let frame = 0;
    let timer = 0;
    let last = 0;
    const off = live?.onChange(() => {
      if (timer || frame) return;
      timer = window.setTimeout(() => {
        timer = 0;
        frame = requestAnimationFrame(() => {
          frame = 0;
          last = performance.now();
          draw((count) => count + 1);
        });
      }, Math.max(0, DRAW_MS - (performance.now() - last)));
    });
    return () => {
      off?.();
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  }, [live]);
}
