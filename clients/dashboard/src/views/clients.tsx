import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import type { ViewProps } from "../app.js";
import { bytes, duration, figure } from "../format.js";
import type { Gateway } from "../gateway.js";
import { Missing, Table, useRest } from "../parts.js";
import { t } from "../texts.js";

/** The time for the second click, which disconnects a client. */
const CONFIRM_MS = 5_000;
const CHANNELS_MAX = 8;
/** How many characters of an id are shown: enough to distinguish clients. */
const ID_LENGTH = 13;

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
  const own = gateway.client.info?.client_id;
  const head = [
    t("id"),
    t("clients.user"),
    t("clients.address"),
    t("clients.connected"),
    t("clients.follows"),
    t("clients.lag"),
    t("clients.buffered"),
    <span class="hidden">{t("clients.disconnect")}</span>,
  ];
  return (
    <>
      <h1>{t("nav.clients")}</h1>
      {data === null ? (
        <Missing error={error} />
      ) : (
        <>
          <p>{t("clients.sums", figure(data.connections), figure(data.sessions_remembered), figure(data.subscriptions))}</p>
          <Table label={t("nav.clients")} widths={[12, 9, 14, 14, 21, 8, 9, 13]} head={head}>
            {data.clients.map((one) => (
              <tr key={one.client_id} data-client={one.client_id}>
                <th scope="row" class="code" title={one.client_id}>
                  {one.client_id.slice(0, ID_LENGTH)}
                  {one.client_id.length > ID_LENGTH && "…"}
                </th>
                <td>{one.user_id ?? "–"}</td>
                <td>{one.address}</td>
                <td class="number">{duration(one.connected_seconds)}</td>
                <td class="names" title={one.channels.join(", ")}>
                  {one.channels.slice(0, CHANNELS_MAX).join(", ") || "–"}
                  {one.channels.length > CHANNELS_MAX && <span class="quiet"> +{one.channels.length - CHANNELS_MAX}</span>}
                </td>
                <td class={`number ${one.lagging ? "bad" : ""}`}>{figure(one.lag)}</td>
                <td class="number">{bytes(one.buffered)}</td>
                <td>
                  {one.client_id === own ? <span class="state">{t("clients.own")}</span> : <Disconnect gateway={gateway} id={one.client_id} />}
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </>
  );
}

/** A button that disconnects a client at the second click; the first one asks for confirmation. */
function Disconnect({ gateway, id }: { gateway: Gateway; id: string }): JSX.Element {
  const [state, setState] = useState<"idle" | "asked" | "done">("idle");
  const [error, setError] = useState("");
  useEffect(() => {
    if (state !== "asked") return;
    const timer = setTimeout(() => setState("idle"), CONFIRM_MS);
    return () => clearTimeout(timer);
  }, [state]);
  const click = async (): Promise<void> => {
    if (state === "idle") {
      setState("asked");
      return;
    }
    try {
      await gateway.rest(`api/v1/websocket/clients/${encodeURIComponent(id)}`, { method: "DELETE" });
      setState("done");
    } catch (refused) {
      setState("idle");
      setError((refused as Error).message);
    }
  };
  if (state === "done") return <span class="quiet">{t("clients.disconnected")}</span>;
  return (
    <>
      <button type="button" class={`small ${state === "asked" ? "danger" : ""}`} onClick={() => void click()}>
        {t(state === "asked" ? "clients.really" : "clients.disconnect")}
        <span class="hidden"> {id}</span>
      </button>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
    </>
  );
}
