/** Whether a name is a pattern, which may match other names than itself. */
export function isWildcard(pattern: string): boolean {
  return pattern.includes("*") || pattern.includes(">");
}

/** Whether a channel is `$personal` or `$everyone`, which every client gets without a subscription. */
export function isOwn(channel: string): boolean {
  return channel.startsWith("$");
}

/** Whether a pattern selects a channel: `*` is one segment, a final `>` one or more. */
export function matches(pattern: string, channel: string): boolean {
  if (!isWildcard(pattern) || isOwn(channel)) return pattern === channel;
  const wanted = pattern.split(".");
  const segments = channel.split(".");
  const open = wanted.at(-1) === ">";
  if (open ? segments.length < wanted.length : segments.length !== wanted.length) return false;
  const fixed = open ? wanted.slice(0, -1) : wanted;
  return fixed.every((segment, at) => segment === "*" || segment === segments[at]);
}
