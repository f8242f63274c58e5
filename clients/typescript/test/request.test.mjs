// Each request is answered once, or fails with a reason.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ClosedError, NotConnectedError, RequestRefusedError } from "../dist/index.js";
import { connected } from "./support/client.mjs";
import { Gateway } from "./support/gateway.mjs";

/** Starts another client that answers each request on a channel twice. */
async function answer(gateway, t, channel) {
  const core = await connected(t, gateway.url);
  const asked = [];
  const subscription = core.subscribe(channel, async (event) => {
    asked.push(event.data);
    if (event.data === "silence") return;
    for (const _ of [1, 2]) {
      await fetch(`http://127.0.0.1:${gateway.port}/api/v1/websocket/broadcast`, {
        method: "POST",
        body: JSON.stringify({ client_id: event.reply_to.client_id, event: { event_type: "reply", data: event.data * 2, ...event.reply_to } }),
      });
    }
  });
  await subscription.confirmed;
  return asked;
}

test("requests are answered, each with its own answer", async (t) => {
  const gateway = await Gateway.start(t);
  const client = await connected(t, gateway.url);
  const asked = await answer(gateway, t, "core.double");
  const answers = await Promise.all([1, 2, 3].map((n) => client.request("core.double", n, { timeoutMs: 60_000 })));

  assert.deepEqual(answers.map((one) => one.data), [2, 4, 6]);
  assert.deepEqual(asked.sort(), [1, 2, 3]);
});

test("a request fails with the reason", async (t) => {
  const gateway = await Gateway.start(t);
  const client = await connected(t, gateway.url);
  await assert.rejects(client.request("core.none", 1), (error) =>
    error instanceof RequestRefusedError && error.code === "no_subscribers");
  const asked = await answer(gateway, t, "core.double");
  await assert.rejects(client.request("core.double", "silence", { timeoutMs: 300 }), NotConnectedError);
  await assert.rejects(client.request("core.double", 1, { signal: AbortSignal.abort() }), { name: "AbortError" });
  const waiting = assert.rejects(client.request("core.double", "silence", { timeoutMs: 60_000 }), (error) =>
    error instanceof NotConnectedError && /restarted or forgot/.test(error.message));
  while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await gateway.end("SIGKILL");
  await gateway.start();
  await waiting;
  const closing = assert.rejects(client.request("core.double", 1, { timeoutMs: 60_000 }), (error) =>
    error instanceof ClosedError || error instanceof RequestRefusedError);
  client.disconnect();
  await closing;
  await assert.rejects(client.request("core.double", 1), NotConnectedError);
});
