// The page keeps its view in the URL, after the `#`: a link shows the same view.
import { useEffect, useState } from "preact/hooks";

export interface Place {
  /** As in `/channels/metrics`. */
  path: string[];
  options: URLSearchParams;
}

export function readPlace(hash = location.hash): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decode);
  return { path: parts.length ? parts : ["overview"], options: new URLSearchParams(query) };
}

/** Returns the link to a view; it keeps the options that apply everywhere (language, theme). */
export function hrefOf(path: string[], options: Record<string, string> = {}): string {
  const query = new URLSearchParams();
  const here = readPlace().options;
  for (const name of ["lang", "theme"]) if (here.has(name)) query.set(name, here.get(name) ?? "");
  for (const [name, value] of Object.entries(options)) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Changes options of the current view, without a new entry in the browser's history. */
export function setOptions(changes: Record<string, string | null>): void {
  const { path, options } = readPlace();
  for (const [name, value] of Object.entries(changes)) {
    if (value) options.set(name, value);
    else options.delete(name);
  }
  const text = options.toString();
  history.replaceState(null, "", `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function usePlace(): Place {
  const [place, setPlace] = useState(readPlace);
  useEffect(() => {
    const listener = (): void => setPlace(readPlace());
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return place;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
