import type { Event, Signal } from "neurograph-client";
import type { JSX } from "preact";

import type { ViewProps } from "../app.js";
import { Feed, useFeed } from "../feed.js";
import { clock, figure } from "../format.js";
import { GapRow, Row } from "../parts.js";
import { t } from "../texts.js";

const ROWS_MAX = 200;

export function Signals({ gateway }: ViewProps): JSX.Element {
  const feed = useFeed(() => new Feed(gateway, ["signals", "signals.>"], { last: 200 }, 500), [gateway]);
  return (
    <>
      <h1>{t("nav.signals")}</h1>
      <p class="quiet">{t("shown", figure(feed.items.length), figure(feed.rate))}</p>
      <div class="rows" role="log" aria-live="off" aria-label={t("nav.signals")}>
        {feed.items.length === 0 && <p class="quiet">{feed.error?.message ?? t("nodata")}</p>}
        {feed.items
          .slice(-ROWS_MAX)
          .reverse()
          .map((item) =>
            item.type === "gap" ? (
              <GapRow key={`gap ${item.channel} ${item.epoch} ${item.from} ${item.to}`} gap={item} />
            ) : (
              <SignalRow key={`${item.channel} ${item.epoch} ${item.offset}`} event={item} />
            ),
          )}
      </div>
    </>
  );
}

function SignalRow({ event }: { event: Event }): JSX.Element {
  const signal = (event.data ?? {}) as Partial<Signal>;
  return (
    <Row
      event={event}
      head={
        <>
          <time>{clock(event.timestamp)}</time>
          <span class="type">{signal.event_type ?? event.event_type}</span>
          <span class="pair">
            {t("signals.priority")} <b>{figure(signal.priority)}</b>
          </span>
          <span class="pair">
            {t("signals.resonance")} <b>{figure(signal.resonance_score)}</b>
          </span>
          <span class="pair">
            {t("signals.neighbors")} <b>{figure(signal.neighbors_count)}</b>
          </span>
          <span class="quiet">{String(signal.event_id ?? "")}</span>
          {signal.is_novel && <span class="state good">{t("signals.novel")}</span>}
        </>
      }
    />
  );
}
