// A channel's numbers: as lines over time, and as the newest values by key.
import type { Event } from "neurograph-client";
import type { JSX } from "preact";

import { setOptions } from "../address.js";
import { Chart, COLORS, type Series } from "../chart.js";
import { at, pathsOf, timeOf } from "../feed.js";
import { clock, figure, inline } from "../format.js";
import { Table } from "../parts.js";
import { t, type Text } from "../texts.js";

const SERIES_MAX = 12;
/** How many of the newest events are searched for fields. */
const SAMPLE = 20;
const KEYS = ["host", "key", "gateway", "service", "name", "id"];

interface Props {
  events: Event[];
  options: URLSearchParams;
}

export function ChannelChart({ events, options }: Props): JSX.Element {
  const numbers = fields(events, "number");
  const key = keyOf(events, options);
  const named = options.get("fields")?.split(",").filter(Boolean);
  const chosen = named ?? numbers.slice(0, 1);
  if (numbers.length === 0) return <p class="quiet">{t("chart.none")}</p>;
  const series = seriesOf(events, chosen, key);
  const change = (field: string): void => {
    const next = chosen.includes(field) ? chosen.filter((one) => one !== field) : [...chosen, field];
    setOptions({ fields: next.join(",") || "," });
  };
  return (
    <>
      <div class="toolbar">
        <fieldset class="chips">
          <legend>{t("chart.fields")}</legend>
          {numbers.map((field) => (
            <label key={field}>
              <input type="checkbox" checked={chosen.includes(field)} onChange={() => change(field)} />
              {field || "data"}
            </label>
          ))}
        </fieldset>
      </div>
      {series.length === 0 ? (
        <p class="quiet">{t("chart.pick")}</p>
      ) : (
        <>
          <Chart series={series} label={t("chart.label", chosen.join(", "))} theme={options.get("theme") ?? "system"} />
          <Summary series={series} />
        </>
      )}
    </>
  );
}

/** The values of the lines as a table. */
function Summary({ series }: { series: Series[] }): JSX.Element {
  return (
    <Table label={t("series")} head={[t("series"), t("now"), t("min"), t("mean"), t("max")]}>
      {series.map(({ name, points }, n) => {
        const values = points.map(([, value]) => value);
        const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
        return (
          <tr key={name} data-series={name} data-points={points.length}>
            <th scope="row">
              <svg class={`swatch series-${n % COLORS}`} viewBox="0 0 10 10" aria-hidden="true">
                <rect width="10" height="10" rx="2" />
              </svg>
              {name}
            </th>
            <td class="number" data-value={values.at(-1)}>
              {figure(values.at(-1))}
            </td>
            <td class="number">{figure(Math.min(...values))}</td>
            <td class="number">{figure(mean)}</td>
            <td class="number">{figure(Math.max(...values))}</td>
          </tr>
        );
      })}
    </Table>
  );
}

/** The newest event of each key, sortable by each of its values. */
export function ChannelValues({ events, options }: Props): JSX.Element {
  const key = keyOf(events, options);
  const newest = new Map<string, Event>();
  for (const event of events) newest.set(key === null ? "" : inline(at(event.data, key), 60), event);
  const columns = [...fields(events, "number"), ...fields(events, "string").filter((one) => one !== key)].slice(0, 24);
  const [by = "", direction = "up"] = (options.get("sort") ?? "").split(" ");
  const value = ([name, event]: [string, Event]): unknown => (by === "" ? name : at(event.data, by));
  const rows = [...newest].sort((a, b) => compare(value(a), value(b)) * (direction === "down" ? -1 : 1));
  const heading = (field: string, label: string): JSX.Element => {
    const isSorted = by === field;
    const next = isSorted && direction === "up" ? "down" : "up";
    return (
      <button type="button" class="sort" onClick={() => setOptions({ sort: `${field} ${next}` })}>
        {label}
        <span aria-hidden="true">{isSorted ? (direction === "up" ? " ▲" : " ▼") : ""}</span>
      </button>
    );
  };
  return (
    <Table
      label={t("tab.values")}
      sorted={[by === "" ? 0 : columns.indexOf(by) + 2, direction === "down" ? "descending" : "ascending"]}
      head={[heading("", key ?? t("name")), t("time"), ...columns.map((one) => heading(one, one || "data"))]}
    >
      {rows.map(([name, event]) => (
        <tr key={name} data-key={name}>
          <th scope="row">{name || event.channel}</th>
          <td>{clock(event.timestamp)}</td>
          {columns.map((one) => {
            const found = at(event.data, one);
            const isNumber = typeof found === "number";
            return (
              <td key={one} class={isNumber ? "number" : ""}>
                {isNumber ? figure(found) : found === undefined ? "–" : inline(found, 60)}
              </td>
            );
          })}
        </tr>
      ))}
    </Table>
  );
}

/** The field whose values are the keys. */
export function KeyChoice({ events, options, label }: Props & { label: Text }): JSX.Element {
  return (
    <label>
      {t(label)}
      <select value={keyOf(events, options) ?? ""} onChange={({ currentTarget }) => setOptions({ key: currentTarget.value || "none" })}>
        <option value="">{t("chart.key.none")}</option>
        {fields(events, "string").map((one) => (
          <option key={one} value={one}>
            {one || "data"}
          </option>
        ))}
      </select>
    </label>
  );
}

function keyOf(events: Event[], options: URLSearchParams): string | null {
  const chosen = options.get("key");
  if (chosen === "none") return null;
  const strings = fields(events, "string");
  return chosen ?? KEYS.find((one) => strings.includes(one)) ?? null;
}

function fields(events: Event[], kind: "number" | "string"): string[] {
  return [...new Set(events.slice(-SAMPLE).flatMap(({ data }) => pathsOf(data, kind)))];
}

function seriesOf(events: Event[], chosen: string[], key: string | null): Series[] {
  const found = new Map<string, Series>();
  for (const event of events) {
    for (const field of chosen) {
      const value = at(event.data, field);
      if (typeof value !== "number") continue;
      const subject = key === null ? "" : inline(at(event.data, key) ?? "", 40);
      const name = [field || "data", subject].filter(Boolean).join(" · ");
      let series = found.get(name);
      if (!series) {
        if (found.size >= SERIES_MAX) continue;
        found.set(name, (series = { name, points: [] }));
      }
      series.points.push([timeOf(event), value]);
    }
  }
  return [...found.values()];
}

function compare(a: unknown, b: unknown): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""));
}
