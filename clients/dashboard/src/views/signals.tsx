import type { Event, Signal } from "neurograph-client";
import type { JSX } from "preact";

import { setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, searched, useFeed } from "../feed.js";
import { clock, figure } from "../format.js";
import { FeedRows, Pause } from "../rows.js";
import { t } from "../texts.js";

const ROWS_MAX = 200;

export function Signals({ gateway, place }: ViewProps): JSX.Element {
  const feed = useFeed(() => new Feed(gateway, ["signals", "signals.>"], { last: 200 }, 500), [gateway]);
  const search = place.options.get("search") ?? "";
  const items = searched(feed.items, search);
  return (
    <>
      <h1>{t("nav.signals")}</h1>
      <div class="toolbar">
        <label>
          {t("search")}
          <input type="search" value={search} onInput={({ currentTarget }) => setOptions({ search: currentTarget.value })} />
        </label>
        <Pause feed={feed} shown={Math.min(items.length, ROWS_MAX)} />
      </div>
      <FeedRows feed={feed} label={t("nav.signals")} most={ROWS_MAX} items={items} head={(event) => <Head event={event} />} />
    </>
  );
}

function Head({ event }: { event: Event }): JSX.Element {
  const signal = (event.data ?? {}) as Partial<Signal>;
  return (
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
  );
}
