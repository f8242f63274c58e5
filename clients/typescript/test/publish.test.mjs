// Publishing over connections that are lost, and to gateways that restart.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ClosedError, NotConnectedError, RequestRefusedError } from "../dist/index.js";
import { connected } from "./support/client.mjs";
import { Gateway, Relay } from "./support/gateway.mjs";

test("each event is published once over connections that are lost", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  const client = await connected(t, relay.url);
  const numbers = Array.from({ length: 40 }, (_, n) => n);
  for (let first = 0; first < 40; first += 4) {
    const publishing = numbers.slice(first, first + 4).map((n) => client.publish("robots", n, { timeoutMs: 60_000 }));
    await Promise.resolve();
    relay.cut();
    await Promise.all(publishing);
  }

  const { items } = await client.history("robots");
  assert.deepEqual(items.map((one) => one.data).sort((a, b) => a - b), numbers);
  assert.ok(relay.accepted > 1);
});

test("a gateway that restarts before its answer is an error, and the event is not published again", async (t) => {
  const gateway = await Gateway.start(t);
  const client = await connected(t, gateway.url);
  process.kill(gateway.pid, "SIGSTOP");
  const publishing = client.publish("robots", 1, { timeoutMs: 60_000 });
  const rejected = assert.rejects(publishing, (error) =>
    error instanceof NotConnectedError && /may or may not have been done/.test(error.message));
  await gateway.end("SIGKILL");
  await gateway.start();
  await rejected;

  assert.equal((await client.publish("robots", 2, { timeoutMs: 60_000 })).position.offset, 1);
});

test("an invalid event is refused, and a timeout or a signal ends publishing", async (t) => {
  const gateway = await Gateway.start(t, { "clients.message_bytes_max": 1000 });
  const client = await connected(t, gateway.url);
  const refused = client.publish("metrics", { cpu_percent: "hot" }, { eventType: "system_metrics" });
  await assert.rejects(refused, (error) => error instanceof RequestRefusedError && error.code === "invalid_event");
  const unheard = client.publish("robots", 1, { mandatory: true });
  await assert.rejects(unheard, (error) => error instanceof RequestRefusedError && error.code === "no_subscribers");
  const { position, recipients, bus } = await client.publish("robots", "x".repeat(10_000));
  assert.deepEqual([position.offset, recipients, bus], [1, 0, null]);
  process.kill(gateway.pid, "SIGSTOP");
  const signal = AbortSignal.abort();
  await assert.rejects(client.publish("robots", 1, { signal }), { name: "AbortError" });
  await assert.rejects(client.publish("robots", 1, { timeoutMs: 10 }), NotConnectedError);
  const rejected = assert.rejects(client.publish("robots", 1), ClosedError);
  client.disconnect();
  await rejected;
  process.kill(gateway.pid, "SIGCONT");
});
