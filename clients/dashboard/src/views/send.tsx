import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { ViewProps } from "../app.js";
import { figure } from "../format.js";
import { useRest } from "../parts.js";
import { t } from "../texts.js";
import type { ChannelInfo } from "./channels.js";

const TARGETS = ["channel", "user", "client", "everyone"] as const;

type Answer = { isError: boolean; text: string } | null;

/** Publish one event, to a channel or to some clients. */
export function Send({ gateway }: ViewProps): JSX.Element {
  const [target, setTarget] = useState<(typeof TARGETS)[number]>("channel");
  const [name, setName] = useState("");
  const [type, setType] = useState("note");
  const [data, setData] = useState('{"text": "hello"}');
  const [answer, setAnswer] = useState<Answer>(null);
  const { data: known } = useRest<{ channels: ChannelInfo[] }>(gateway, "api/v1/websocket/channels");
  const channels = known?.channels ?? [];
  const schema = target === "channel" ? channels.find((one) => one.name === name)?.schema : null;

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch (error) {
      return setAnswer({ isError: true, text: t("send.json", (error as Error).message) });
    }
    const to = target === "everyone" ? { everyone: true } : { [target === "channel" ? target : `${target}_id`]: name };
    const body = JSON.stringify({ ...to, event: { event_type: type, data: value } });
    try {
      const headers = { "Content-Type": "application/json" };
      const sent = await gateway.rest<{ recipients: number }>("api/v1/websocket/broadcast", { method: "POST", headers, body });
      setAnswer({ isError: false, text: t("send.sent", figure(sent.recipients)) });
    } catch (error) {
      setAnswer({ isError: true, text: (error as Error).message });
    }
  };
  return (
    <>
      <h1>{t("nav.send")}</h1>
      <form class="panel form" onSubmit={(event) => void submit(event)}>
        <div class="pairs">
          <label>
            {t("send.to")}
            <select value={target} onChange={({ currentTarget }) => setTarget(currentTarget.value as typeof target)}>
              {TARGETS.map((one) => (
                <option key={one} value={one}>
                  {t(`send.${one}`)}
                </option>
              ))}
            </select>
          </label>
          {target !== "everyone" && (
            <label>
              {t(target === "channel" ? "channel" : "id")}
              <input
                name="name"
                required
                value={name}
                list={target === "channel" ? "channel-names" : undefined}
                onInput={({ currentTarget }) => setName(currentTarget.value)}
              />
            </label>
          )}
          <datalist id="channel-names">
            {channels.map((one) => (
              <option key={one.name} value={one.name} />
            ))}
          </datalist>
          <label>
            {t("send.event_type")}
            <input name="event_type" required value={type} onInput={({ currentTarget }) => setType(currentTarget.value)} />
          </label>
        </div>
        <label>
          {t("send.data")}
          <textarea
            name="data"
            class="code"
            rows={6}
            spellcheck={false}
            value={data}
            onInput={({ currentTarget }) => setData(currentTarget.value)}
          />
        </label>
        {schema && (
          <p class="quiet">
            {t("send.fields", name)} <code>{fieldsOf(schema).join(", ")}</code>
          </p>
        )}
        {target === "channel" && <p class="quiet">{t("send.numbering")}</p>}
        <button type="submit" class="primary">
          {t("send.button")}
        </button>
        <p role="status" class={answer?.isError ? "error" : ""}>
          {answer?.text}
        </p>
      </form>
    </>
  );
}

/** The fields of a standard channel's data, from its JSON Schema. */
function fieldsOf(schema: Record<string, unknown>): string[] {
  const definitions = Object.values((schema["$defs"] ?? {}) as Record<string, { properties?: object }>);
  return Object.keys((schema["properties"] as object | undefined) ?? definitions[0]?.properties ?? {});
}
