import type { Position } from "./models.js";

/** Proxies and servers limit request lines to about 8,000 characters. */
const SINCE_CHARACTERS_MAX = 4_000;

/**
 * Returns the WebSocket's URL for a gateway's address, which may begin with `http` or `ws`, and leave out `/ws`.
 *
 * `localhost:8000` means `http://localhost:8000`. In a browser the address may be relative to the page.
 * Throws a TypeError if the address is invalid.
 */
export function addressOf(text: string | URL): URL {
  const whole = /^[\w.-]+:\d+(\/|$)/.test(String(text)) ? `http://${text}` : text;
  const url = new URL(whole, (globalThis as { location?: { href: string } }).location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`${url.href} is not a WebSocket address; expected ws, wss, http or https`);
  url.pathname = `${url.pathname.replace(/\/(ws)?$/, "")}/ws`;
  url.hash = "";
  return url;
}

/** Returns the URL that resumes a session from its positions. */
export function resuming(base: URL, session: string, positions: Record<string, Position>): string {
  const url = new URL(base);
  url.searchParams.set("session", session);
  const size = (one: Record<string, Position>): number => encodeURIComponent(JSON.stringify(one)).length;
  const since = fitting(positions, size, SINCE_CHARACTERS_MAX);
  if (Object.keys(since).length > 0) url.searchParams.set("since", JSON.stringify(since));
  return url.href;
}

/**
 * Returns as many positions as there is room for.
 *
 * The gateway continues channels without one from an earlier position; the client drops what it has already delivered.
 */
export function fitting(
  positions: Record<string, Position>,
  size: (one: Record<string, Position>) => number,
  room: number,
): Record<string, Position> {
  const fits = Object.entries(positions).filter(([name, position]) => {
    room -= size({ [name]: position });
    return room >= 0;
  });
  return Object.fromEntries(fits);
}
