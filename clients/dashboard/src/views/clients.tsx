import type { JSX } from "preact";

import type { ViewProps } from "../app.js";
import { bytes, duration, figure } from "../format.js";
import { Missing, Table, useRest } from "../parts.js";
import { t } from "../texts.js";

interface ConnectedClient {
  client_id: string;
  user_id: string | null;
  address: string;
  connected_seconds: number;
  channels: string[];
  lagging: boolean;
  lag: number;
  buffered: number;
}

interface Status {
  connections: number;
  sessions_remembered: number;
  subscriptions: number;
  clients: ConnectedClient[];
}

/** Who is connected, what they subscribe to, and how far behind they are. */
export function Clients({ gateway }: ViewProps): JSX.Element {
  const { data, error } = useRest<Status>(gateway, "api/v1/websocket/status?limit=500");
  const head = [
    t("id"),
    t("clients.user"),
    t("clients.address"),
    t("clients.connected"),
    t("clients.follows"),
    t("clients.lag"),
    t("clients.buffered"),
  ];
  return (
    <>
      <h1>{t("nav.clients")}</h1>
      {data === null ? (
        <Missing error={error} />
      ) : (
        <>
          <p>{t("clients.sums", figure(data.connections), figure(data.sessions_remembered), figure(data.subscriptions))}</p>
          <Table label={t("nav.clients")} head={head}>
            {data.clients.map((one) => (
              <tr key={one.client_id}>
                <th scope="row" class="code">
                  {one.client_id}
                </th>
                <td>{one.user_id ?? "–"}</td>
                <td>{one.address}</td>
                <td class="number">{duration(one.connected_seconds)}</td>
                <td class="names">{one.channels.join(", ") || "–"}</td>
                <td class={`number ${one.lagging ? "bad" : ""}`}>{figure(one.lag)}</td>
                <td class="number">{bytes(one.buffered)}</td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </>
  );
}
