import type { Event, LogRecord } from "neurograph-client";
import type { JSX } from "preact";

import { setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, type Item, searched, useFeed } from "../feed.js";
import { clock } from "../format.js";
import { FeedRows, Pause } from "../rows.js";
import { t } from "../texts.js";

const ROWS_MAX = 300;
const LEVELS = ["debug", "info", "warning", "error", "critical"];

export function Logs({ gateway, place }: ViewProps): JSX.Element {
  const feed = useFeed(() => new Feed(gateway, ["logs", "logs.>"], { last: 500 }, 2_000), [gateway]);
  const level = place.options.get("level") ?? "";
  const service = place.options.get("service") ?? "";
  const search = place.options.get("search") ?? "";
  const services = new Set(feed.items.map((item) => (item.type === "event" ? serviceOf(item) : "")).filter(Boolean));
  const found = searched(feed.items, search).filter((item) => isWanted(item, level, service));
  return (
    <>
      <h1>{t("nav.logs")}</h1>
      <div class="toolbar">
        <label>
          {t("logs.level")}
          <select value={level} onChange={({ currentTarget }) => setOptions({ level: currentTarget.value })}>
            <option value="">{t("all")}</option>
            {LEVELS.map((one) => (
              <option key={one} value={one}>
                ≥ {one}
              </option>
            ))}
          </select>
        </label>
        <label>
          {t("logs.service")}
          <select value={service} onChange={({ currentTarget }) => setOptions({ service: currentTarget.value })}>
            <option value="">{t("logs.allServices")}</option>
            {[...services].sort().map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <label class="wide">
          {t("search")}
          <input type="search" value={search} onInput={({ currentTarget }) => setOptions({ search: currentTarget.value })} />
        </label>
        <Pause feed={feed} shown={Math.min(found.length, ROWS_MAX)} />
      </div>
      <FeedRows
        feed={feed}
        label={t("nav.logs")}
        most={ROWS_MAX}
        items={found}
        head={(event) => (
          <>
            <time>{clock(event.timestamp)}</time>
            <span class={`level ${levelOf(event)}`}>{levelOf(event)}</span>
            <span class="type">{serviceOf(event) || event.channel}</span>
            <span class="message">{recordOf(event).message ?? JSON.stringify(event.data)}</span>
          </>
        )}
      />
    </>
  );
}

const recordOf = (event: Event): Partial<LogRecord> => (event.data ?? {}) as Partial<LogRecord>;
const serviceOf = (event: Event): string => recordOf(event).service ?? "";

function levelOf(event: Event): string {
  const name = String(recordOf(event).level ?? "").toLowerCase();
  return { warn: "warning", fatal: "critical", err: "error" }[name] ?? name;
}

function isWanted(item: Item, level: string, service: string): boolean {
  if (item.type === "gap") return true;
  if (level && LEVELS.indexOf(levelOf(item)) < LEVELS.indexOf(level)) return false;
  return !service || serviceOf(item) === service;
}
