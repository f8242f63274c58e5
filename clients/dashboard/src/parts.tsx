import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { inline } from "./format.js";
import { type Gateway, Refused } from "./gateway.js";
import { t, type Text } from "./texts.js";

/** How often a visible view repeats its REST requests, for data that no channel has. */
const REST_MS = 5_000;

/** The answer of REST at a path, requested again regularly while the page is visible. */
export function useRest<T>(gateway: Gateway, path: string): { data: T | null; error: Refused | null } {
  const [found, setFound] = useState<{ data: T | null; error: Refused | null }>({ data: null, error: null });
  const { generation } = gateway;
  useEffect(() => {
    let isCurrent = true;
    const ask = (): void => {
      if (document.hidden) return;
      gateway.rest<T>(path).then(
        (data) => isCurrent && setFound({ data, error: null }),
        (error: unknown) => isCurrent && error instanceof Refused && setFound({ data: null, error }),
      );
    };
    ask();
    const timer = setInterval(ask, REST_MS);
    document.addEventListener("visibilitychange", ask);
    return () => {
      isCurrent = false;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [gateway, generation, path]);
  return found;
}

/** A text in place of REST's answer while there is none. */
export function Missing({ error }: { error: Refused | null }): JSX.Element {
  if (error === null) return <p class="quiet">{t("loading")}</p>;
  const isRight = error.status === 401 || error.status === 403;
  return <p class="quiet">{isRight ? t("forbidden") : error.message}</p>;
}

/** A small line chart of the newest values; hidden from screen readers, as the numbers beside it say the same. */
export function Spark({ values, isFull = false }: { values: readonly number[]; isFull?: boolean }): JSX.Element {
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(values.length - 1, 1);
  const points = values.map((value, n) => `${(n * step).toFixed(1)},${(27 - (value / most) * 24).toFixed(1)}`);
  return (
    <svg class={isFull ? "spark full" : "spark"} viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">
      {values.length > 1 && (
        <>
          <polygon points={`0,28 ${points.join(" ")} 100,28`} />
          <polyline points={points.join(" ")} />
        </>
      )}
    </svg>
  );
}

export function Card(props: {
  name: Text;
  value: string;
  more?: string;
  values?: readonly number[];
  tone?: "good" | "bad" | undefined;
}): JSX.Element {
  return (
    <div class={`card ${props.tone ?? ""}`} data-card={props.name}>
      <h3>{t(props.name)}</h3>
      <p class="value">{props.value}</p>
      <p class="more">{props.more ?? "\u00a0"}</p>
      {props.values && <Spark values={props.values} isFull />}
    </div>
  );
}

/**
 * A table that scrolls horizontally if it is wider than the screen.
 *
 * With `widths`, in percent, the columns keep their widths for any content. `sorted` is the column by which the rows
 * are sorted, and the direction.
 */
export function Table(props: {
  label: string;
  head: ComponentChildren[];
  widths?: readonly number[];
  sorted?: readonly [number, "ascending" | "descending"];
  children: ComponentChildren;
}): JSX.Element {
  const { widths, sorted } = props;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table class={widths ? "fixed" : undefined}>
        {widths && (
          <colgroup>
            {widths.map((width, n) => (
              <col key={n} width={`${width}%`} />
            ))}
          </colgroup>
        )}
        <thead>
          <tr>
            {props.head.map((one, n) => (
              <th scope="col" key={n} aria-sort={sorted?.[0] === n ? sorted[1] : undefined}>
                {one}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </div>
  );
}

/** A value as a tree whose nodes can be opened and closed. */
export function Tree({ name, value, depth = 0 }: { name?: string; value: unknown; depth?: number }): JSX.Element {
  const label = name === undefined ? null : <span class="key">{name}: </span>;
  if (value === null || typeof value !== "object") {
    const kind = value === null ? "null" : typeof value;
    return (
      <div class="leaf">
        {label}
        <span class={kind}>{kind === "string" ? JSON.stringify(value) : String(value)}</span>
      </div>
    );
  }
  const entries = Object.entries(value);
  return (
    <details class="tree" open={depth < 2}>
      <summary>
        {label}
        <span class="quiet">{Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`}</span>
      </summary>
      {entries.slice(0, 200).map(([one, own]) => (
        <Tree key={one} name={one} value={own} depth={depth + 1} />
      ))}
    </details>
  );
}

export function Copy({ value }: { value: unknown }): JSX.Element {
  const [isDone, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    const text = JSON.stringify(value, null, 2);
    if (isSecureContext) await navigator.clipboard.writeText(text);
    else copySelected(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" onClick={() => void copy().catch(console.error)}>
      {t(isDone ? "copied" : "copy")}
    </button>
  );
}

/** Copies a text without the clipboard API, which browsers deny to pages over plain HTTP. */
function copySelected(text: string): void {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export const Data = ({ value }: { value: unknown }): JSX.Element => <code class="data">{inline(value)}</code>;
