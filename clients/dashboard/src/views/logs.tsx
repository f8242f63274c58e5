import type { Event, LogRecord } from "neurograph-client";
import type { JSX } from "preact";

import { setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, type Item, useFeed } from "../feed.js";
import { clock, figure } from "../format.js";
import { GapRow, Row } from "../parts.js";
import { t } from "../texts.js";

const ROWS_MAX = 300;
const LEVELS = ["debug", "info", "warning", "error", "critical"];

export function Logs({ gateway, place }: ViewProps): JSX.Element {
  const feed = useFeed(() => new Feed(gateway, ["logs", "logs.>"], { last: 500 }, 2_000), [gateway]);
  const level = place.options.get("level") ?? "";
  const service = place.options.get("service") ?? "";
  const search = place.options.get("search") ?? "";
  const services = new Set(feed.items.map((item) => (item.type === "event" ? serviceOf(item) : "")).filter(Boolean));
  const rows = feed.items.filter((item) => isWanted(item, level, service, search.toLowerCase())).slice(-ROWS_MAX);
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
        <button type="button" aria-pressed={feed.isPaused} onClick={() => (feed.isPaused ? feed.resume() : feed.pause())}>
          {t(feed.isPaused ? "resume" : "pause")}
        </button>
        <span class="quiet">{feed.isPaused ? t("paused") : t("shown", figure(rows.length), figure(feed.rate))}</span>
      </div>
      <div class="rows" role="log" aria-live="off" aria-label={t("nav.logs")}>
        {rows.length === 0 && <p class="quiet">{feed.error?.message ?? t("nodata")}</p>}
        {[...rows].reverse().map((item) =>
          item.type === "gap" ? (
            <GapRow key={`gap ${item.channel} ${item.epoch} ${item.from} ${item.to}`} gap={item} />
          ) : (
            <Row
              key={`${item.channel} ${item.epoch} ${item.offset}`}
              event={item}
              head={
                <>
                  <time>{clock(item.timestamp)}</time>
                  <span class={`level ${levelOf(item)}`}>{levelOf(item)}</span>
                  <span class="type">{serviceOf(item) || item.channel}</span>
                  <span class="message">{recordOf(item).message ?? JSON.stringify(item.data)}</span>
                </>
              }
            />
          ),
        )}
      </div>
    </>
  );
}

const recordOf = (event: Event): Partial<LogRecord> => (event.data ?? {}) as Partial<LogRecord>;
const serviceOf = (event: Event): string => recordOf(event).service ?? "";

function levelOf(event: Event): string {
  const name = String(recordOf(event).level ?? "").toLowerCase();
  return { warn: "warning", fatal: "critical", err: "error" }[name] ?? name;
}

function isWanted(item: Item, level: string, service: string, search: string): boolean {
  if (item.type === "gap") return true;
  if (level && LEVELS.indexOf(levelOf(item)) < LEVELS.indexOf(level)) return false;
  if (service && serviceOf(item) !== service) return false;
  return !search || JSON.stringify(item.data).toLowerCase().includes(search);
}
