// Code that must type-check, and lines that must not: `tsc -p test` is the test.
import { Client, type Event, type Gap, type State } from "neurograph-client";

declare module "neurograph-client" {
  interface Channels {
    "robots.r2": { x: number };
  }
}

const client = new Client("ws://127.0.0.1:8000/ws");

client.subscribe("metrics", (event) => event.data.cpu_percent?.toFixed(1), { last: 1 });
client.subscribe("logs", (event) => event.data.level.toUpperCase());
client.subscribe("status", ({ data }) => [data.status, data.uptime_seconds, data.service]);
client.subscribe("robots.r2", (event) => event.data.x.toFixed());
client.subscribe("robots.*", (event: Event) => console.log(event.data, event.epoch, event.offset));
client.subscribe("signals", { rate: 2, since: { epoch: "x", offset: 1 } });
client.subscribe(["metrics", "logs"], ({ channel, data }) => [channel, "level" in data && data.level]);
client.on("gap", (gap: Gap) => gap.reason === "evicted");
client.on("state", (state: State) => state === "connected");
client.on("connected", (connected) => connected.resumed);
client.on("disconnected", ({ code, retryMs }) => code + (retryMs ?? 0));

client.subscribe("metrics", (item) => (item.type === "gap" ? item.reason : item.data.cpu_percent), { gaps: true });

client.subscribe(["metrics", "logs"], (event) => event.channel === "metrics" ? event.data.cpu_percent : event.data.level);
client.subscribe(["metrics", "robots.r2"], { signal: new AbortController().signal });

async function use(): Promise<void> {
  await using one = new Client("localhost:8000");
  const { items, next } = await one.history("metrics", { limit: 3 });
  await one.publish("metrics", items.length, { eventType: next.epoch });
}
void use();

async function iterate(): Promise<void> {
  for await (const event of client.subscribe("actions")) console.log(event.data.execution_time_ms);
}
void iterate();

// @ts-expect-error: metrics have no such field
client.subscribe("metrics", (event) => event.data.cpu_precent);
// @ts-expect-error: a gap has no data
client.subscribe("metrics", (item) => item.data, { gaps: true });
// @ts-expect-error: nothing is known of this channel's data
client.subscribe("robots.r3", (event) => event.data.x);
// @ts-expect-error: there is no such event
client.on("conected", () => {});
// @ts-expect-error: there is no such option
client.subscribe("metrics", { lats: 1 });
// @ts-expect-error: state is read-only
client.state = "closed";
