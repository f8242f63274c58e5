import type { JSX } from "preact";

import type { ViewProps } from "../app.js";
import { clock, duration, figure, milliseconds } from "../format.js";
import { Missing, Table, useRest } from "../parts.js";
import { Row } from "../rows.js";
import { known, t } from "../texts.js";

interface Publisher {
  incarnation: string;
  name: string;
  stale: boolean;
  interval_seconds: number;
  silent_seconds: number;
  transit_seconds: number | null;
  replay: string | null;
}

interface Topic {
  incarnation: string;
  topic: string;
  first_sequence: number;
  newest_sequence: number;
  lost: number;
  duplicates: number;
  late: number;
  last_seconds: number;
}

interface Publishers {
  lost: number;
  duplicates: number;
  late: number;
  repaired: number;
  recovering: number;
  publishers: Publisher[];
  topics: Topic[];
}

interface Rejected {
  number: number;
  time: string;
  reason: string;
  detail: string;
  advice: string;
  topic: string;
  frames: string;
  hex: string[];
  endpoint: string;
  publisher: string;
  payload: string;
}

interface Rejections {
  counts: Record<string, number>;
  rejections: Rejected[];
}

/** A clock with a larger difference is marked. */
const CLOCK_SECONDS_MAX = 1;
const HEX_ROW_BYTES = 16;

/** The publishers, their losses, and rejected messages. */
export function Publishers({ gateway }: ViewProps): JSX.Element {
  const { data, error } = useRest<Publishers>(gateway, "api/v1/websocket/publishers");
  const rejections = useRest<Rejections>(gateway, "api/v1/websocket/rejections");
  if (!(data || error) || !(rejections.data || rejections.error)) return <h1>{t("nav.publishers")}</h1>; // both at once, so that nothing moves
  return (
    <>
      <h1>{t("nav.publishers")}</h1>
      {data === null ? (
        <Missing error={error} />
      ) : (
        <>
          <p>
            {t("publishers.sums", ...[data.lost, data.repaired, data.duplicates, data.late, data.recovering].map(figure))}
          </p>
          <Known publishers={data.publishers} />
          <Topics topics={data.topics} names={new Map(data.publishers.map((one) => [one.incarnation, one.name]))} />
        </>
      )}
      <section>
        <h2>{t("rejections")}</h2>
        {rejections.data ? <Rejections {...rejections.data} /> : <Missing error={rejections.error} />}
      </section>
    </>
  );
}

function Known({ publishers }: { publishers: Publisher[] }): JSX.Element {
  const head = [
    t("name"),
    t("state"),
    t("publishers.interval"),
    t("publishers.heard"),
    t("publishers.clock"),
    t("publishers.replay"),
    t("publishers.incarnation"),
  ];
  return (
    <section>
      <h2>{t("publishers.known")}</h2>
      {publishers.length === 0 ? (
        <p class="quiet">{t("nodata")}</p>
      ) : (
        <Table label={t("publishers.known")} head={head}>
          {publishers.map((one) => (
            <tr key={one.incarnation}>
              <th scope="row">{one.name || "–"}</th>
              <td>
                <span class={`state ${one.stale ? "bad" : "good"}`}>
                  {t(one.stale ? "publishers.stale" : "publishers.live")}
                </span>
              </td>
              <td class="number">{t("publishers.every", duration(one.interval_seconds))}</td>
              <td class="number">{t("ago", duration(one.silent_seconds))}</td>
              <td class="number">
                <Clock transit={one.transit_seconds} />
              </td>
              <td class="code">{one.replay ?? t("publishers.no")}</td>
              <td class="code">{one.incarnation}</td>
            </tr>
          ))}
        </Table>
      )}
    </section>
  );
}

/** The difference of a publisher's clock, as far as the latency of its messages shows it. */
function Clock({ transit }: { transit: number | null }): JSX.Element {
  if (transit === null) return <>–</>;
  const off = Math.abs(transit);
  if (off <= CLOCK_SECONDS_MAX) return <>± {milliseconds(off)}</>;
  return <span class="bad">{t(transit < 0 ? "publishers.clock.ahead" : "publishers.clock.behind", duration(off))}</span>;
}

function Topics({ topics, names }: { topics: Topic[]; names: Map<string, string> }): JSX.Element | null {
  if (topics.length === 0) return null;
  const head = [
    t("rejections.topic"),
    t("name"),
    t("publishers.sequence"),
    t("publishers.lost"),
    t("publishers.duplicates"),
    t("publishers.late"),
    t("publishers.heard"),
  ];
  return (
    <section>
      <h2>{t("publishers.topics")}</h2>
      <Table label={t("publishers.topics")} head={head}>
        {topics.map((one) => (
          <tr key={`${one.incarnation} ${one.topic}`} data-topic={one.topic}>
            <th scope="row">{one.topic}</th>
            <td>{names.get(one.incarnation) || <span class="code">{one.incarnation}</span>}</td>
            <td class="number">{one.newest_sequence}</td>
            <td class={`number ${one.lost ? "bad" : ""}`}>{one.lost}</td>
            <td class="number">{one.duplicates}</td>
            <td class="number">{one.late}</td>
            <td class="number">{t("ago", duration(one.last_seconds))}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

function Rejections({ counts, rejections }: Rejections): JSX.Element {
  const reasons = Object.entries(counts).filter(([, count]) => count > 0);
  if (reasons.length === 0) return <p class="quiet">{t("rejections.none")}</p>;
  return (
    <>
      <ul class="advice">
        {reasons.map(([reason, count]) => (
          <li key={reason}>
            <b>
              {figure(count)} × {reason}
            </b>{" "}
            {known("advice", reason)}
          </li>
        ))}
      </ul>
      <div class="rows">
        {rejections.map((one) => (
          <Row
            key={one.number}
            event={one}
            head={
              <>
                <time>{clock(one.time)}</time>
                <span class="state bad">{one.reason}</span>
                <span class="type">{one.topic || "–"}</span>
                <span class="message">{one.detail}</span>
              </>
            }
          >
            <dl class="facts">
              <dt>{t("rejections.advice")}</dt>
              <dd>{one.advice}</dd>
              <dt>{t("rejections.reason")}</dt>
              <dd>{one.detail}</dd>
              <dt>{t("rejections.from")}</dt>
              <dd>{[one.publisher, one.endpoint].filter(Boolean).join(", ") || "–"}</dd>
              {one.hex.map((hex, n) => (
                <div key={n}>
                  <dt>{t("rejections.frame", n + 1)}</dt>
                  <dd>
                    <pre tabIndex={0} data-frame={n}>
                      {dump(hex)}
                    </pre>
                  </dd>
                </div>
              ))}
            </dl>
          </Row>
        ))}
      </div>
    </>
  );
}

/** Bytes in hexadecimal and as text, sixteen per row. */
function dump(hex: string): string {
  const bytes = hex.match(/../g) ?? [];
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += HEX_ROW_BYTES) {
    const row = bytes.slice(at, at + HEX_ROW_BYTES);
    const text = row.map((byte) => Number.parseInt(byte, 16)).map((code) => (code > 31 && code < 127 ? String.fromCharCode(code) : "·"));
    rows.push(`${at.toString(16).padStart(4, "0")}  ${row.join(" ").padEnd(HEX_ROW_BYTES * 3 - 1)}  ${text.join("")}`);
  }
  return rows.join("\n");
}
