import type { Position } from "./models.js";

/** Request lines have a limit of about 8,000 characters on the way. */
const SINCE_CHARACTERS_MAX = 4_000;

/**
 * The WebSocket's address from that of a gateway: `http` stands for `ws`, and `/ws` may be left out.
 *
 * `localhost:8000` stands for `http://localhost:8000`. In a browser it may be relative to the page.
 * Throws a TypeError if it is no address.
 */
export function addressOf(text: string | URL): URL {
  const whole = /^[\w.-]+:\d+(\/|$)/.test(String(text)) ? `http://${text}` : text;
  const url = new URL(whole, (globalThis as { location?: { href: string } }).location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`${url.href} is no WebSocket address`);
  url.pathname = `${url.pathname.replace(/\/(ws)?$/, "")}/ws`;
  url.hash = "";
  return url;
}

/** The address that takes up a session where its channels stand. */
export function resuming(base: URL, session: string, positions: Record<string, Position>): string {
  const url = new URL(base);
  url.searchParams.set("session", session);
  const size = (one: Record<string, Position>): number => encodeURIComponent(JSON.stringify(one)).length;
  const since = fitting(positions, size, SINCE_CHARACTERS_MAX);
  if (Object.keys(since).length > 0) url.searchParams.set("since", JSON.stringify(since));
  return url.href;
}

/**
 * As many positions as there is room for.
 *
 * A channel without one is read from further back, and what was seen of it is not delivered again.
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
