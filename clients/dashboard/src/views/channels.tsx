import type { Event, GatewayFigures } from "neurograph-client";
import { Component, type JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import { hrefOf, setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { bytes, clock, figure } from "../format.js";
import { Data, Missing, Spark, useRest } from "../parts.js";
import { ROWS_PER_FRAME } from "../rows.js";
import { language, t } from "../texts.js";

export interface ChannelInfo {
  name: string;
  description: string;
  standard: boolean;
  subscribers: number;
  position: { epoch: string; offset: number };
  start: { epoch: string; offset: number };
  events: number;
  bytes: number;
  retention: { events_max: number; bytes_max: number; age_seconds_max: number };
  schema: Record<string, unknown> | null;
}

const FIGURES_MAX = 60;

/** The data of the rows, and which rows are out of date. */
class Rows {
  readonly newest = new Map<string, Event>();
  readonly info = new Map<string, ChannelInfo>();
  rates: Record<string, number>[] = [];
  readonly #shown = new Map<string, ChannelRow>();
  readonly #outdated = new Set<string>();
  #frame = 0;

  add(row: ChannelRow): void {
    this.#shown.set(row.props.name, row);
  }

  remove(row: ChannelRow): void {
    this.#shown.delete(row.props.name);
  }

  /** Draws these rows again, or all. */
  changed(names: Iterable<string> = this.#shown.keys()): void {
    for (const name of names) this.#outdated.add(name);
    this.#frame ||= requestAnimationFrame(this.#draw);
  }

  close(): void {
    cancelAnimationFrame(this.#frame);
  }

  readonly #draw = (): void => {
    this.#frame = 0;
    let drawn = 0;
    for (const name of this.#outdated) {
      if (drawn === ROWS_PER_FRAME) break;
      this.#outdated.delete(name);
      const row = this.#shown.get(name);
      if (!row) continue;
      row.forceUpdate();
      drawn += 1;
    }
    if (this.#outdated.size > 0) this.#frame = requestAnimationFrame(this.#draw);
  };
}

export function Channels({ gateway, place }: ViewProps): JSX.Element {
  const rows = useMemo(() => new Rows(), []);
  useEffect(() => {
    // The newest event of each channel once a second, with one subscription for any number of channels.
    const newest = gateway.follow(
      [">"],
      (item) => {
        if (item.type !== "event") return;
        rows.newest.set(item.channel, item);
        rows.changed([item.channel]);
      },
      { last: 1, rate: 1 },
    );
    const figures = gateway.follow(
      ["metrics.gateway"],
      (item) => {
        if (item.type !== "event") return;
        rows.rates = [...rows.rates, (item as Event<GatewayFigures>).data.channels].slice(-FIGURES_MAX);
        rows.changed();
      },
      { last: FIGURES_MAX },
    );
    return () => {
      newest.close();
      figures.close();
      rows.close();
    };
  }, [gateway, rows]);
  const { data, error } = useRest<{ channels: ChannelInfo[] }>(gateway, "api/v1/websocket/channels");
  useEffect(() => {
    rows.info.clear();
    for (const one of data?.channels ?? []) rows.info.set(one.name, one);
    rows.changed();
  }, [data, rows]);
  const search = place.options.get("search") ?? "";
  const names = (data?.channels ?? []).map(({ name }) => name).filter((name) => name.includes(search));
  const shown = useGrowing(names.length);
  const head = [t("name"), t("channels.rate"), t("trend"), t("channels.held"), t("channels.subscribers"), t("channels.schema"), t("channels.last")];
  return (
    <>
      <h1>{t("nav.channels")}</h1>
      <div class="toolbar">
        <label>
          {t("search")}
          <input type="search" value={search} onInput={({ currentTarget }) => setOptions({ search: currentTarget.value })} />
        </label>
        {data && <span class="quiet">{t(search ? "channels.found" : "channels.count", figure(data.channels.length), figure(names.length))}</span>}
      </div>
      {data === null ? (
        <Missing error={error} />
      ) : names.length === 0 ? (
        <p class="quiet">{t("channels.none")}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={t("nav.channels")}>
          <div class="channels" role="table" aria-label={t("nav.channels")} aria-rowcount={names.length + 1}>
            <div role="row" class="head">
              {head.map((one) => (
                <span role="columnheader" key={one}>
                  {one}
                </span>
              ))}
            </div>
            {names.slice(0, shown).map((name) => (
              <ChannelRow key={name} name={name} rows={rows} language={language()} />
            ))}
          </div>
        </div>
      )}
    </>
  );
}

/** A number that grows to `most`, in each animation frame by the rows that it can draw. */
function useGrowing(most: number): number {
  const [count, setCount] = useState(ROWS_PER_FRAME);
  useEffect(() => {
    if (count >= most) return;
    const frame = requestAnimationFrame(() => setCount(count + ROWS_PER_FRAME));
    return () => cancelAnimationFrame(frame);
  }, [count, most]);
  return count;
}

interface RowProps {
  name: string;
  rows: Rows;
  language: string;
}

/** A channel's row, drawn again only if `rows` says so: there may be hundreds of rows. */
class ChannelRow extends Component<RowProps> {
  override componentDidMount(): void {
    this.props.rows.add(this);
  }

  override componentWillUnmount(): void {
    this.props.rows.remove(this);
  }

  override shouldComponentUpdate(next: RowProps): boolean {
    return next.language !== this.props.language;
  }

  override render({ name, rows }: RowProps): JSX.Element {
    const last = rows.newest.get(name);
    const info = rows.info.get(name);
    return (
      <div role="row" data-channel={name}>
        <span role="rowheader">
          <a href={hrefOf(["channels", name])} title={name}>
            {name}
          </a>
        </span>
        <span role="cell" class="number">
          {t("perSecond", figure(rows.rates.at(-1)?.[name] ?? 0))}
        </span>
        <span role="cell">
          <Spark values={rows.rates.map((one) => one[name] ?? 0)} />
        </span>
        <span role="cell" class="number">
          {info && (
            <>
              {figure(info.events)} <span class="quiet">/ {figure(info.retention.events_max)}, {bytes(info.bytes)}</span>
            </>
          )}
        </span>
        <span role="cell" class="number">
          {info?.subscribers}
        </span>
        <span role="cell">
          {info?.schema ? <a href={hrefOf(["channels", name], { tab: "about" })}>{t("channels.schema.own")}</a> : <span class="quiet">{t("about.schema.none")}</span>}
        </span>
        <span role="cell">
          {last ? (
            <>
              <time>{clock(last.timestamp).slice(0, 8)}</time> <Data value={last.data} />
            </>
          ) : (
            "–"
          )}
        </span>
      </div>
    );
  }
}
