import type { JSX } from "preact";
import { useState } from "preact/hooks";

import type { ViewProps } from "../app.js";
import { hrefOf } from "../address.js";
import { figure } from "../format.js";
import { useRest } from "../parts.js";
import { t } from "../texts.js";
import type { ChannelInfo } from "./channels.js";

const TARGETS = ["channel", "user", "client", "everyone"] as const;

type Answer = { isError: boolean; text: string; channel?: string } | null;

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
    try {
      if (target === "channel") {
        const { recipients, position, bus } = await gateway.client.publish(name, value, { eventType: type });
        const text = t("send.published", figure(recipients), `${position.epoch}:${position.offset}`);
        return setAnswer({ isError: false, text: bus === false ? `${t("send.unheard")} ${text}` : text, channel: name });
      }
      const to = { user: { userId: name }, client: { clientId: name }, everyone: {} }[target];
      setAnswer({ isError: false, text: t("send.sent", figure(await gateway.client.broadcast(type, value, to))) });
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
          <div class="help">
            <p class="quiet">
              {t("send.fields", name)} <code>{fieldsOf(schema).join(", ")}</code>
            </p>
            <button type="button" class="small" onClick={() => setData(JSON.stringify(exampleOf(schema), null, 2))}>
              {t("send.example")}
            </button>
          </div>
        )}
        {target === "channel" && <p class="quiet">{t("send.numbering")}</p>}
        <button type="submit" class="primary">
          {t("send.button")}
        </button>
        <p role="status" class={answer?.isError ? "error" : ""}>
          {answer?.text}
          {answer?.channel !== undefined && (
            <>
              {" "}
              <a href={hrefOf(["channels", answer.channel])}>{answer.channel}</a>
            </>
          )}
        </p>
      </form>
    </>
  );
}

interface Model {
  properties?: Record<string, Property>;
  required?: string[];
}
interface Property {
  type?: string;
  anyOf?: Property[];
  enum?: unknown[];
  default?: unknown;
}

/** The model of a channel's data in its schema, which may be a reference. */
function modelOf(schema: Record<string, unknown>): Model {
  if (schema["properties"]) return schema as Model;
  const name = String(schema["$ref"] ?? "").split("/").at(-1) ?? "";
  return ((schema["$defs"] ?? {}) as Record<string, Model>)[name] ?? {};
}

/** The fields with their types; required ones have a star. */
function fieldsOf(schema: Record<string, unknown>): string[] {
  const { properties = {}, required = [] } = modelOf(schema);
  return Object.entries(properties).map(([name, property]) => {
    const types = (property.anyOf ?? [property]).map(({ type }) => type ?? "any").filter((type) => type !== "null");
    return `${name}${required.includes(name) ? "*" : ""}: ${types.join(" | ")}`;
  });
}

const EXAMPLES: Record<string, unknown> = { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} };

/** Example data with all fields of a schema; optional fields are null. */
function exampleOf(schema: Record<string, unknown>): Record<string, unknown> {
  const { properties = {} } = modelOf(schema);
  const values = Object.entries(properties).map(([name, one]) => [name, one.default ?? one.enum?.[0] ?? (one.anyOf ? null : (EXAMPLES[one.type ?? ""] ?? null))]);
  return Object.fromEntries(values) as Record<string, unknown>;
}
