import type { Action, Event } from "neurograph-client";
import type { JSX } from "preact";

import type { ViewProps } from "../app.js";
import { Feed, timeOf, useFeed } from "../feed.js";
import { clock, duration, inline, milliseconds } from "../format.js";
import { Empty, gapKey, GapRow, Pause, Row, useRowLimit } from "../rows.js";
import { known, t } from "../texts.js";

const ROWS_MAX = 200;
const GAPS_MAX = 20;

/** An action with all its events; the newest event has its state. */
interface Course {
  first: Event;
  last: Event;
}

export function Actions({ gateway }: ViewProps): JSX.Element {
  const feed = useFeed(() => new Feed(gateway, ["actions", "actions.>"], { last: 400 }, 1_000), [gateway]);
  const courses = new Map<string, Course>();
  for (const item of feed.items) {
    if (item.type !== "event") continue;
    const id = (item.data as Action | null)?.action_id ?? `${item.epoch} ${item.offset}`;
    const course = courses.get(`${item.channel} ${id}`);
    if (course) course.last = item;
    else courses.set(`${item.channel} ${id}`, { first: item, last: item });
  }
  const limit = useRowLimit(feed.count, ROWS_MAX);
  return (
    <>
      <h1>{t("nav.actions")}</h1>
      <div class="toolbar">
        <Pause feed={feed} shown={Math.min(courses.size, ROWS_MAX)} />
      </div>
      <div class="rows" role="log" aria-live="off" aria-label={t("nav.actions")}>
        {feed.items.length === 0 && <Empty feed={feed} />}
        {feed.items
          .filter((item) => item.type === "gap")
          .slice(-GAPS_MAX)
          .map((gap) => (
            <GapRow key={gapKey(gap)} gap={gap} />
          ))}
        {[...courses]
          .slice(-limit)
          .reverse()
          .map(([id, course]) => (
            <ActionRow key={id} {...course} />
          ))}
      </div>
    </>
  );
}

const TONES: Record<string, string> = { completed: "good", failed: "bad" };

function ActionRow({ first, last }: Course): JSX.Element {
  const action = (last.data ?? {}) as Action;
  const state = stateOf(last.event_type ?? "", action);
  const measured = action.execution_time_ms;
  const seconds = measured === null || measured === undefined ? (timeOf(last) - timeOf(first)) / 1000 : measured / 1000;
  return (
    <Row
      event={last}
      head={
        <>
          <time>{clock(first.timestamp)}</time>
          <span class={`state ${TONES[state] ?? ""}`}>{known("actions", state)}</span>
          <span class="type">{action.action_type ?? last.event_type}</span>
          <span class="pair">{(measured || first !== last) && <b>{seconds < 1 ? milliseconds(seconds) : duration(seconds)}</b>}</span>
          {action.error ? (
            <span class="message bad">{action.error}</span>
          ) : (
            <code class="data">{action.result !== undefined && action.result !== null && inline(action.result, 120)}</code>
          )}
          <span class="quiet">{String(action.action_id ?? "")}</span>
        </>
      }
    />
  );
}

/** The state in an event: one of three names if it matches one of them, else the event's own word. */
function stateOf(eventType: string, { status, error }: Action): string {
  const said = (status ?? eventType.split(".").at(-1) ?? "").toLowerCase();
  if (error || /^(fail|error|cancel|timeout)/.test(said)) return "failed";
  if (/^(complet|success|succeed|done|finish|ok)/.test(said)) return "completed";
  if (/^(start|run|pend|begin|queue)/.test(said)) return "started";
  return said;
}
