import type { Event, GatewayFigures } from "neurograph-client";
import type { ComponentChildren, JSX } from "preact";
import { useMemo, useRef } from "preact/hooks";

import { hrefOf } from "../address.js";
import type { ViewProps } from "../app.js";
import { Feed, useFeed } from "../feed.js";
import { bytes, duration, figure } from "../format.js";
import { Card, Missing, Spark, Table, useRest } from "../parts.js";
import { known, t } from "../texts.js";

/** How many figures are drawn: five minutes of one every five seconds. */
const FIGURES_MAX = 60;
const HOST_POINTS_MAX = 60;
const CHANNELS_MAX = 24;

interface Endpoint {
  endpoint: string;
  /** A name has one entry for each of its addresses; absent in older gateways. */
  address?: string;
  mode: string;
  state: string;
  peers: number;
  received: number;
  last_event_seconds: number | null;
  problem: string;
}

interface ClusterGateway {
  id: string;
  name: string;
  version: string;
  uptime_seconds: number;
  clients: number;
  lag_seconds: number;
  recovering: number;
  ready: boolean;
  own: boolean;
}

interface Status {
  bus: Endpoint[];
  cluster: { degraded: string[]; gateways: ClusterGateway[] } | null;
  rejected: Record<string, number>;
}

/** Whether everything is well, with the most important figures. */
export function Overview({ gateway }: ViewProps): JSX.Element {
  const figures = useFeed(
    () => new Feed(gateway, ["metrics.gateway"], { last: FIGURES_MAX }, FIGURES_MAX),
    [gateway],
  );
  const metrics = useFeed(() => new Feed(gateway, ["metrics"], { last: 200 }, 400), [gateway]);
  const status = useRest<Status>(gateway, "api/v1/websocket/status?limit=1");

  const history = figures.items.filter((item): item is Event<GatewayFigures> => item.type === "event");
  const now = history.at(-1)?.data;
  const isHere = figures.isReady && metrics.isReady && (status.data || status.error);
  const rates = useMemo(() => history.map(({ data }) => data.channels), [history.at(-1), history.length]);
  // All parts at once, so that no visible part moves when another one arrives.
  if (!isHere) {
    return (
      <>
        <h1>{t("nav.overview")}</h1>
        <p class="quiet">{t("loading")}</p>
      </>
    );
  }
  const line = (name: keyof GatewayFigures): number[] => history.map(({ data }) => Number(data[name]));
  return (
    <>
      <h1>{t("nav.overview")}</h1>
      <Verdict figures={now} status={status.data} isConnected={gateway.client.state === "connected"} />
      {now ? <Cards now={now} reasons={reasonsOf(status.data)} line={line} /> : <p class="quiet">{t("figures.off")}</p>}
      <Hosts items={metrics.items.filter((item): item is Event => item.type === "event")} />
      {now && <Rates history={rates} />}
      <section>
        <h2>{t("bus")}</h2>
        {status.data ? <Endpoints endpoints={status.data.bus} /> : <Missing error={status.error} />}
      </section>
      {status.data?.cluster && <Gateways gateways={status.data.cluster.gateways} />}
    </>
  );
}

/** Why messages were rejected, the most frequent reason first. */
function reasonsOf(status: Status | null): string {
  const reasons = Object.entries(status?.rejected ?? {}).filter(([, count]) => count > 0);
  return reasons
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => `${reason} ${figure(count)}`)
    .join(", ");
}

function Cards({ now, reasons, line }: { now: GatewayFigures; reasons: string; line: (name: keyof GatewayFigures) => number[] }): JSX.Element {
  return (
    <div class="cards">
      <Card
        name="card.in"
        value={t("perSecond", figure(now.received_per_second))}
        more={t("perSecond", bytes(now.received_bytes_per_second))}
        values={line("received_per_second")}
      />
      <Card
        name="card.out"
        value={t("perSecond", figure(now.delivered_per_second))}
        more={t("perSecond", bytes(now.delivered_bytes_per_second))}
        values={line("delivered_per_second")}
      />
      <Card
        name="card.clients"
        value={figure(now.connections)}
        more={t("card.subscriptions", figure(now.subscriptions))}
        values={line("connections")}
      />
      <Card
        name="card.lag"
        value={figure(now.lag)}
        more={now.lagging ? t("card.lag.some", now.lagging) : t("card.lag.none")}
        values={line("lag")}
        tone={now.lagging ? "bad" : undefined}
      />
      <Card
        name="card.lost"
        value={figure(now.lost)}
        more={t("card.repaired", figure(now.repaired))}
        values={line("lost")}
        tone={now.lost ? "bad" : undefined}
      />
      <Card
        name="card.rejected"
        value={figure(now.rejected)}
        more={reasons || t("card.rejected.none")}
        values={line("rejected")}
        tone={now.rejected ? "bad" : undefined}
      />
      <Card
        name="card.cpu"
        value={`${figure(now.cpu_percent)} %`}
        more={t("card.uptime", duration(now.uptime_seconds))}
        values={line("cpu_percent")}
      />
      <Card
        name="card.memory"
        value={bytes(now.memory_mb * 2 ** 20)}
        more={now.gateway}
        values={line("memory_mb")}
      />
    </div>
  );
}

/** The problems, each with a link to the view that shows more. */
function Verdict(props: {
  figures: GatewayFigures | undefined;
  status: Status | null;
  isConnected: boolean;
}): JSX.Element | null {
  const { figures } = props;
  const publishers = hrefOf(["publishers"]);
  const problems: ComponentChildren[] = [];
  if (!props.isConnected) problems.push(t("problem.offline"));
  const notes: string[] = [];
  const endpoints = props.status?.bus ?? [];
  const isFed = endpoints.some(({ peers, received }) => peers && received);
  for (const { endpoint, problem, received } of endpoints) {
    // An endpoint that never had a publisher is no problem if other endpoints have publishers.
    if (problem && !received && isFed) notes.push(t("note.unreached", endpoint, problem));
    else if (problem) problems.push(t("problem.endpoint", endpoint, problem));
  }
  for (const one of props.status?.cluster?.degraded ?? []) problems.push(t("problem.degraded", one));
  if (figures?.bus === "waiting") problems.push(t("problem.bus.waiting"));
  if (figures?.bus === "stale") problems.push(<a href={publishers}>{t("problem.bus.stale")}</a>);
  else if (figures?.publishers_stale) {
    problems.push(<a href={publishers}>{t("problem.stale", figures.publishers_stale)}</a>);
  }
  if (figures?.lost) problems.push(<a href={publishers}>{t("problem.lost", figure(figures.lost))}</a>);
  if (figures?.rejected) {
    const reasons = reasonsOf(props.status);
    const text = reasons ? t("problem.rejected.reasons", figure(figures.rejected), reasons) : t("problem.rejected", figure(figures.rejected));
    problems.push(<a href={publishers}>{text}</a>);
  }
  if (figures?.lagging) {
    problems.push(<a href={hrefOf(["clients"])}>{t("problem.lagging", figures.lagging, figure(figures.lag))}</a>);
  }
  if (figures?.evicted) problems.push(<a href={hrefOf(["clients"])}>{t("problem.evicted", figure(figures.evicted))}</a>);
  if (!figures && problems.length === 0) return null;
  return (
    <section class={`verdict ${problems.length ? "bad" : "good"}`}>
      <h2>{t(problems.length ? "attention" : "well")}</h2>
      {problems.length === 0 ? (
        <p>{t("well.none")}</p>
      ) : (
        <ul>
          {problems.map((one, n) => (
            <li key={n}>{one}</li>
          ))}
        </ul>
      )}
      {notes.map((one) => (
        <p class="quiet" key={one}>
          {one}
        </p>
      ))}
    </section>
  );
}

/** All gateways of the cluster. */
function Gateways({ gateways }: { gateways: ClusterGateway[] }): JSX.Element {
  return (
    <section>
      <h2>{t("cluster")}</h2>
      <Table label={t("cluster")} head={[t("name"), t("cluster.version"), t("cluster.uptime"), t("card.clients"), t("cluster.lag")]}>
        {gateways.map((one) => (
          <tr key={one.id}>
            <th scope="row">
              {one.own ? t("cluster.own", one.name) : one.name}
              {one.ready ? "" : ` – ${t("cluster.unready")}`}
            </th>
            <td>{one.version}</td>
            <td class="number">{duration(one.uptime_seconds)}</td>
            <td class="number">{figure(one.clients)}</td>
            <td class="number">{t("cluster.seconds", one.lag_seconds.toFixed(3))}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

interface HostMetrics {
  host?: unknown;
  cpu_percent?: number | null;
  memory_percent?: number | null;
  memory_mb?: number | null;
  load_1m?: number | null;
}

/** The load of each host; publishers that name no host share one row. */
function Hosts({ items }: { items: Event[] }): JSX.Element {
  const hosts = new Map<string, HostMetrics[]>();
  for (const { data } of items) {
    const metrics = data as HostMetrics;
    const name = typeof metrics.host === "string" ? metrics.host : "–";
    const list = hosts.get(name) ?? [];
    hosts.set(name, list);
    list.push(metrics);
  }
  const rows = [...hosts].sort(([a], [b]) => a.localeCompare(b));
  return (
    <section>
      <h2>
        <a href={hrefOf(["channels", "metrics"], { tab: "chart" })}>{t("hosts")}</a>
      </h2>
      {rows.length === 0 ? (
        <p class="quiet">{t("hosts.none")}</p>
      ) : (
        <Table label={t("hosts")} widths={[26, 20, 15, 27, 12]} head={[t("name"), t("host.cpu"), t("trend"), t("host.memory"), t("host.load")]}>
          {rows.map(([name, list]) => {
            const last = list.at(-1) as HostMetrics;
            const memory = last.memory_mb === null || last.memory_mb === undefined ? null : bytes(last.memory_mb * 2 ** 20);
            return (
              <tr key={name} data-host={name}>
                <th scope="row" title={name}>
                  {name}
                </th>
                <td class="number">
                  <Meter value={last.cpu_percent} />
                </td>
                <td>
                  <Spark values={list.slice(-HOST_POINTS_MAX).map(({ cpu_percent }) => cpu_percent ?? 0)} />
                </td>
                <td class="number">
                  <Meter value={last.memory_percent} text={memory} />
                </td>
                <td class="number">{figure(last.load_1m)}</td>
              </tr>
            );
          })}
        </Table>
      )}
    </section>
  );
}

function Meter(props: { value: number | null | undefined; text?: string | null }): JSX.Element {
  const percent = props.value ?? null;
  const text = percent === null ? "–" : `${figure(percent)} %`;
  return (
    <span class="meter">
      {percent !== null && (
        <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
          <rect class="all" width="100" height="6" />
          <rect class={percent > 90 ? "high" : ""} width={Math.min(percent, 100)} height="6" />
        </svg>
      )}
      <span>{props.text ? `${props.text}, ${text}` : text}</span>
    </span>
  );
}

/** A row for each channel, the busiest first when the view is opened; then each keeps its place. */
function Rates({ history }: { history: Record<string, number>[] }): JSX.Element {
  const sums = new Map<string, number>();
  for (const one of history) {
    for (const [name, rate] of Object.entries(one)) sums.set(name, (sums.get(name) ?? 0) + rate);
  }
  const places = useRef<string[]>([]);
  const busiest = [...sums].sort(([, a], [, b]) => b - a).slice(0, CHANNELS_MAX).map(([name]) => name);
  const names = [...new Set([...places.current.filter((name) => sums.has(name)), ...busiest])].slice(0, CHANNELS_MAX);
  places.current = names;
  return (
    <section>
      <h2>
        <a href={hrefOf(["channels"])}>{t("nav.channels")}</a>
      </h2>
      {names.length === 0 && <p class="quiet">{t("nodata")}</p>}
      <ul class="rates">
        {names.map((name) => (
          <li key={name}>
            <a href={hrefOf(["channels", name])}>
              <span class="name">{name}</span>
              <span class="number">{t("perSecond", figure(history.at(-1)?.[name] ?? 0))}</span>
              <Spark values={history.map((one) => one[name] ?? 0)} isFull />
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Endpoints({ endpoints }: { endpoints: Endpoint[] }): JSX.Element {
  const head = [t("bus.endpoint"), t("state"), t("bus.peers"), t("bus.received"), t("bus.last")];
  return (
    <Table label={t("bus")} head={head}>
      {endpoints.map((one) => (
        <tr key={`${one.endpoint} ${one.address ?? ""}`}>
          <th scope="row">
            {one.endpoint}
            {one.address && <div class="quiet">{one.address}</div>}
          </th>
          <td>
            <span class={`state ${one.problem ? "bad" : one.peers ? "good" : ""}`}>{known("endpoint", one.state)}</span>
            {one.problem && <div class="quiet">{one.problem}</div>}
          </td>
          <td class="number">{one.peers}</td>
          <td class="number">{figure(one.received)}</td>
          <td class="number">
            {one.last_event_seconds === null ? "–" : t("ago", duration(one.last_event_seconds))}
          </td>
        </tr>
      ))}
    </Table>
  );
}
