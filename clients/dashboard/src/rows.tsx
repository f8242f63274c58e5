// Lists of events, the newest first, with a limited number of new rows in each animation frame.
import type { Event, Gap } from "neurograph-client";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { Feed, Item } from "./feed.js";
import { figure } from "./format.js";
import { Copy, Tree } from "./parts.js";
import { known, t } from "./texts.js";

/** How many rows an animation frame adds: hundreds at once would delay keys and clicks. */
export const ROWS_PER_FRAME = 25;
/** The minimum height of a row. */
const ROW_PX_MIN = 24;
/** For this time after many events at once, only as many rows as fit the screen are drawn. */
const CALM_MS = 400;

/** How many rows to draw, at most `most`: as many as fit the screen while more than these arrive at once, otherwise all. */
export function useRowLimit(count: number, most: number): number {
  const few = Math.min(most, Math.max(40, Math.ceil(innerHeight / ROW_PX_MIN)));
  const state = useRef({ count, limit: few, calmAt: 0 }).current;
  const [, draw] = useState(0);
  if (count - state.count > few) {
    state.limit = few;
    state.calmAt = performance.now() + CALM_MS;
  }
  state.count = count;
  useEffect(() => {
    if (state.limit >= most) return;
    const grow = (): void => {
      state.limit = Math.min(most, state.limit + ROWS_PER_FRAME);
      draw((n) => n + 1);
    };
    const wait = state.calmAt - performance.now();
    const timer = wait > 0 ? setTimeout(grow, wait) : undefined;
    const frame = wait > 0 ? 0 : requestAnimationFrame(grow);
    return () => {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  });
  return state.limit;
}

/** A feed's items, or a selection of them, the newest first; `head` is the line of an event, which opens to the whole event. */
export function FeedRows(props: {
  feed: Feed;
  label: string;
  most: number;
  items?: Item[];
  head: (event: Event) => ComponentChildren;
}): JSX.Element {
  const { feed, label, most, items = feed.items, head } = props;
  const limit = useRowLimit(feed.count, most);
  return (
    <div class="rows" role="log" aria-live="off" aria-label={label}>
      {items.length === 0 && <Empty feed={feed} />}
      {items
        .slice(-limit)
        .reverse()
        .map((item) =>
          item.type === "gap" ? <GapRow key={gapKey(item)} gap={item} /> : <Row key={keyOf(item)} event={item} head={head(item)} />,
        )}
    </div>
  );
}

/** The reason why a feed shows no items. */
export function Empty({ feed }: { feed: Feed }): JSX.Element {
  const text = feed.error?.message ?? t(feed.items.length > 0 ? "nomatch" : feed.isConfirmed ? "nodata" : "loading");
  return <p class="quiet">{text}</p>;
}

/** A key that is unique among the events of a list. */
const keyOf = (event: Event): string => `${event.channel} ${event.epoch} ${event.offset}`;
export const gapKey = (gap: Gap): string => `gap ${gap.channel} ${gap.epoch} ${gap.from} ${gap.to}`;

/** One line that opens to the whole event, or to `children`. */
export function Row(props: { head: ComponentChildren; event: unknown; children?: ComponentChildren }): JSX.Element {
  const { head, event } = props;
  const [isOpen, setOpen] = useState(false);
  return (
    <details class="row" onToggle={(toggle) => setOpen((toggle.target as HTMLDetailsElement).open)}>
      <summary>{head}</summary>
      {isOpen && (
        <div class="open">
          {props.children ?? <Tree value={event} />}
          <Copy value={event} />
        </div>
      )}
    </details>
  );
}

export function GapRow({ gap }: { gap: Gap }): JSX.Element {
  return (
    <p class="gap" data-gap={gap.reason}>
      {gapText(gap)}
    </p>
  );
}

/** The text of a gap: its channel, count and reason. */
export function gapText(gap: Gap): string {
  const missing =
    gap.count === null ? t("notice.gap.some", gap.channel) : t("notice.gap", gap.channel, figure(gap.count));
  return `${missing}: ${known("reason", gap.reason)}`;
}

/** The pause button, the number of shown items, and the rate. */
export function Pause({ feed, shown }: { feed: Feed; shown: number }): JSX.Element {
  return (
    <>
      <button type="button" aria-pressed={feed.isPaused} onClick={() => (feed.isPaused ? feed.resume() : feed.pause())}>
        {t(feed.isPaused ? "resume" : "pause")}
      </button>
      <span class="quiet" data-count={feed.count}>
        {feed.isPaused ? t("paused") : t("shown", figure(shown), figure(feed.rate))}
      </span>
    </>
  );
}
