import type { Client, Event, RequestRefusedError } from "neurograph-client";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { hrefOf, setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, searched, useFeed } from "../feed.js";
import { bytes, clock, duration, figure } from "../format.js";
import { Data, Missing, Tree, useRest } from "../parts.js";
import { Empty, FeedRows, Pause } from "../rows.js";
import { t } from "../texts.js";
import { ChannelChart, ChannelValues, KeyChoice } from "./channel-figures.js";
import type { ChannelInfo } from "./channels.js";

const HISTORY = 500;
const ROWS_MAX = 200;
const TABS = ["tail", "chart", "values", "about"] as const;
const RATES = ["", "20", "5", "1"];

/** One channel: live, as a chart, as current values. It uses a separate connection, for its filter and rate. */
export function Channel({ gateway, place, channel }: ViewProps & { channel: string }): JSX.Element {
  const { options } = place;
  const filter = options.get("filter") ?? "";
  const rate = options.get("rate") ?? "";
  const tab = TABS.find((one) => one === options.get("tab")) ?? "tail";
  const [client, setClient] = useState<Client | null>(null);
  useEffect(() => {
    const own = gateway.open();
    setClient(own);
    return () => own.disconnect();
  }, [gateway]);
  const feed = useFeed(() => {
    if (client === null) return null;
    const wanted = { last: HISTORY, ...(filter ? { filter } : {}), ...(rate ? { rate: Number(rate) } : {}) };
    return new Feed(gateway, [channel], wanted, 1_000, client);
  }, [gateway, client, channel, filter, rate]);
  return (
    <>
      <p class="path">
        <a href={hrefOf(["channels"])}>{t("nav.channels")}</a> /
      </p>
      <h1>{channel}</h1>
      <div class="tabs" role="tablist" aria-label={channel}>
        {TABS.map((one) => (
          <button
            key={one}
            type="button"
            role="tab"
            id={`tab-${one}`}
            aria-selected={one === tab}
            aria-controls="tab-panel"
            tabIndex={one === tab ? 0 : -1}
            onClick={() => setOptions({ tab: one === "tail" ? null : one })}
            onKeyDown={(event) => moveTab(event, one)}
          >
            {t(`tab.${one}`)}
          </button>
        ))}
      </div>
      {tab !== "about" && <Filter filter={filter} rate={rate} error={feed?.error ?? null} />}
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`}>
        {tab === "about" ? (
          <About gateway={gateway} place={place} channel={channel} />
        ) : feed ? (
          <Shown feed={feed} tab={tab} place={place} />
        ) : (
          <p class="quiet">{t("loading")}</p>
        )}
      </div>
    </>
  );
}

function moveTab(event: KeyboardEvent, from: (typeof TABS)[number]): void {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step === undefined) return;
  const to = TABS[(TABS.indexOf(from) + step + TABS.length) % TABS.length] as string;
  setOptions({ tab: to === "tail" ? null : to });
  document.getElementById(`tab-${to}`)?.focus();
}

function Filter(props: { filter: string; rate: string; error: RequestRefusedError | null }): JSX.Element {
  const [text, setText] = useState(props.filter);
  useEffect(() => setText(props.filter), [props.filter]);
  const { error } = props;
  const isWrong = error?.code === "invalid_filter";
  return (
    <form
      class="toolbar"
      onSubmit={(event) => {
        event.preventDefault();
        setOptions({ filter: text.trim() });
      }}
    >
      <label class="wide">
        {t("filter")}
        <input
          name="filter"
          class="code"
          spellcheck={false}
          autocomplete="off"
          placeholder={t("filter.hint")}
          value={text}
          aria-invalid={isWrong}
          aria-describedby={isWrong ? "filter-error" : undefined}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
      </label>
      <button type="submit">{t("apply")}</button>
      <label>
        {t("rate")}
        <select value={props.rate} onChange={({ currentTarget }) => setOptions({ rate: currentTarget.value })}>
          {RATES.map((one) => (
            <option key={one} value={one}>
              {one ? t("perSecond", one) : t("rate.all")}
            </option>
          ))}
        </select>
      </label>
      {error && (
        <div class="error" id="filter-error" role="alert">
          {isWrong && <Mark filter={props.filter} message={error.message} />}
          <p>{error.message}</p>
        </div>
      )}
    </form>
  );
}

/** The filter, with the place of an error marked. */
function Mark({ filter, message }: { filter: string; message: string }): JSX.Element | null {
  const found = / at (\d+): /.exec(message);
  if (!found) return null;
  const place = Number(found[1]);
  return (
    <pre>
      {filter.slice(0, place)}
      <mark data-at={place}>{filter[place] ?? "\u00a0"}</mark>
      {filter.slice(place + 1)}
    </pre>
  );
}

function Shown({ feed, tab, place }: { feed: Feed; tab: "tail" | "chart" | "values"; place: ViewProps["place"] }): JSX.Element {
  const events = feed.items.filter((item): item is Event => item.type === "event");
  const search = place.options.get("search") ?? "";
  return (
    <>
      <div class="toolbar">
        {tab === "tail" && (
          <label>
            {t("search")}
            <input type="search" value={search} onInput={({ currentTarget }) => setOptions({ search: currentTarget.value })} />
          </label>
        )}
        {tab !== "tail" && <KeyChoice events={events} options={place.options} label={tab === "chart" ? "chart.key" : "chart.newestBy"} />}
        <Pause feed={feed} shown={events.length} />
      </div>
      {tab === "tail" && <Tail feed={feed} search={search} />}
      {tab !== "tail" && events.length === 0 && <Empty feed={feed} />}
      {tab === "chart" && events.length > 0 && <ChannelChart events={events} options={place.options} />}
      {tab === "values" && events.length > 0 && <ChannelValues events={events} options={place.options} />}
    </>
  );
}

function Tail({ feed, search }: { feed: Feed; search: string }): JSX.Element {
  return (
    <FeedRows
      feed={feed}
      label={t("tab.tail")}
      most={ROWS_MAX}
      items={searched(feed.items, search)}
      head={(event) => (
        <>
          <time>{clock(event.timestamp)}</time>
          <span class="offset">#{event.offset}</span>
          {event.event_type && <span class="type">{event.event_type}</span>}
          <Data value={event.data} />
        </>
      )}
    />
  );
}

function About({ gateway, channel }: ViewProps & { channel: string }): JSX.Element {
  const { data, error } = useRest<ChannelInfo>(gateway, `api/v1/websocket/channels/${channel}`);
  if (data === null) return <Missing error={error} />;
  const { retention } = data;
  const limits = t("about.retention.value", figure(retention.events_max), bytes(retention.bytes_max));
  return (
    <dl class="facts">
      <dt>{t("about.description")}</dt>
      <dd>{data.description || "–"}</dd>
      <dt>{t("channels.subscribers")}</dt>
      <dd>{data.subscribers}</dd>
      <dt>{t("channels.held")}</dt>
      <dd>
        {figure(data.events)}, {bytes(data.bytes)}
      </dd>
      <dt>{t("about.retention")}</dt>
      <dd>
        {limits}
        {retention.age_seconds_max > 0 && `, ${duration(retention.age_seconds_max)}`}
      </dd>
      <dt>{t("about.position")}</dt>
      <dd class="code">
        {data.position.epoch}:{data.position.offset}
      </dd>
      <dt>{t("about.start")}</dt>
      <dd class="code">
        {data.start.epoch}:{data.start.offset}
      </dd>
      <dt>{t("about.schema")}</dt>
      <dd>{data.schema ? <Tree value={data.schema} /> : t("about.schema.none")}</dd>
    </dl>
  );
}
