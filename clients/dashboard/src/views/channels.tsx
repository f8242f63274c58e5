import type { Event, GatewayFigures } from "neurograph-client";
import { Component, type JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";

import { hrefOf, setOptions } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, useFeed } from "../feed.js";
import { bytes, clock, figure } from "../format.js";
import { Live, useLive } from "../live.js";
import { Data, Missing, Spark, Table, useRest } from "../parts.js";
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

/** The newest event of each channel: one subscription, once a second, however many channels there are. */
class Newest extends Live {
  readonly byChannel = new Map<string, Event>();
}

export function Channels({ gateway, place }: ViewProps): JSX.Element {
  const newest = useMemo(() => new Newest(), []);
  const figures = useFeed(() => new Feed(gateway, ["metrics.gateway"], { last: FIGURES_MAX }, FIGURES_MAX), [gateway]);
  useEffect(() => {
    const following = gateway.follow(
      [">"],
      (item) => {
        if (item.type !== "event") return;
        newest.byChannel.set(item.channel, item);
        newest.changed();
      },
      { last: 1, rate: 1 },
    );
    return () => following.close();
  }, [gateway, newest]);
  useLive(newest);
  const { data, error } = useRest<{ channels: ChannelInfo[] }>(gateway, "api/v1/websocket/channels");
  const search = place.options.get("search") ?? "";
  const rates = figures.items.filter((one): one is Event<GatewayFigures> => one.type === "event").map((one) => one.data.channels);
  const channels = (data?.channels ?? []).filter(({ name }) => name.includes(search));
  return (
    <>
      <h1>{t("nav.channels")}</h1>
      <div class="toolbar">
        <label>
          {t("search")}
          <input type="search" value={search} onInput={({ currentTarget }) => setOptions({ search: currentTarget.value })} />
        </label>
      </div>
      {data === null ? (
        <Missing error={error} />
      ) : (
        <Table
          label={t("nav.channels")}
          head={[t("name"), t("channels.rate"), t("trend"), t("channels.held"), t("channels.subscribers"), t("channels.last")]}
        >
          {channels.length === 0 && (
            <tr>
              <td colSpan={6}>{t("channels.none")}</td>
            </tr>
          )}
          {channels.map((channel) => (
            <ChannelRow key={channel.name} channel={channel} rates={rates} language={language()} last={newest.byChannel.get(channel.name)} />
          ))}
        </Table>
      )}
    </>
  );
}

interface RowProps {
  channel: ChannelInfo;
  rates: Record<string, number>[];
  last: Event | undefined;
  language: string;
}

/** A channel's line, drawn again only if something of it has changed: there may be hundreds. */
class ChannelRow extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const { channel, rates, last, language } = this.props;
    const isSame = next.channel === channel && next.last === last && next.language === language;
    return !isSame || next.rates.length !== rates.length || next.rates.at(-1) !== rates.at(-1);
  }

  override render({ channel, rates, last }: RowProps): JSX.Element {
    return (
      <tr data-channel={channel.name}>
        <th scope="row">
          <a href={hrefOf(["channels", channel.name])}>{channel.name}</a>
        </th>
        <td class="number">{t("perSecond", figure(rates.at(-1)?.[channel.name] ?? 0))}</td>
        <td>
          <Spark values={rates.map((one) => one[channel.name] ?? 0)} />
        </td>
        <td class="number">
          {figure(channel.events)} <span class="quiet">/ {figure(channel.retention.events_max)}, {bytes(channel.bytes)}</span>
        </td>
        <td class="number">{channel.subscribers}</td>
        <td class="last">
          {last ? (
            <>
              <time>{clock(last.timestamp)}</time> <Data value={last.data} />
            </>
          ) : (
            "–"
          )}
        </td>
      </tr>
    );
  }
}
