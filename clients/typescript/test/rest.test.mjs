// Requests over HTTP, and signals that end requests and subscriptions.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, NotConnectedError, RequestRefusedError } from "../dist/index.js";
import { eventually, freeEndpoint, Gateway } from "./support/gateway.mjs";

test("publishing, history, channels, presence and status over HTTP", async (t) => {
  const gateway = await Gateway.start(t);
  const client = new Client(gateway.url);
  t.after(() => client.disconnect());
  const found = [];
  const subscription = client.subscribe("robots", (event) => found.push([event.event_type, event.data]));
  await client.connect();
  await subscription.confirmed;
  for (const n of [1, 2, 3]) assert.equal((await client.publish("robots", { n }, { eventType: "t" })).recipients, 1);
  assert.deepEqual((await client.publish("robots", { n: 4 })).position.offset, 4);
  assert.equal(await client.broadcast("note", "hello"), 1);
  const newest = await client.history("robots", { limit: 2 });
  const first = await client.history("robots", { since: { ...newest.next, offset: 0 }, limit: 3 });
  const rest = await client.history("robots", { since: first.next });
  await eventually(() => found.length >= 4);

  const numbers = (part) => part.items.map((one) => one.data.n);
  assert.deepEqual([newest, first, rest].map(numbers), [[3, 4], [1, 2, 3], [4]]);
  assert.deepEqual(rest.next, { epoch: rest.items[0].epoch, offset: 4 });
  assert.deepEqual(found.at(0), ["t", { n: 1 }]);
  assert.ok((await client.channels()).some((one) => one.name === "robots" && one.events === 4));
  assert.equal((await client.presence("robots")).subscribers, 1);
  assert.equal((await client.status()).ready, true);
});

test("a request refused over HTTP, or without a gateway, is an error", async (t) => {
  const gateway = await Gateway.start(t);
  const client = new Client(gateway.url);
  const nowhere = new Client((await freeEndpoint()).replace("tcp", "http"));

  await assert.rejects(client.history("no.such"), (error) =>
    error instanceof RequestRefusedError && error.code === "unknown_channel" && error.status === 404);
  await assert.rejects(nowhere.status(), NotConnectedError);
  await assert.rejects(client.status({ signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("a signal closes a subscription, and ends a request", async (t) => {
  const gateway = await Gateway.start(t);
  const client = new Client(gateway.url);
  t.after(() => client.disconnect());
  await client.connect();
  const ending = new AbortController();
  const subscription = client.subscribe("robots", () => {}, { signal: ending.signal });
  await subscription.confirmed;
  ending.abort();
  await eventually(async () => (await client.subscriptions()).length === 0);

  assert.throws(() => client.subscribe("robots", { signal: ending.signal }), { name: "AbortError" });
  await assert.rejects(client.ping({ signal: ending.signal }), { name: "AbortError" });
});

test("the end of an `await using` block ends clients and subscriptions", async (t) => {
  const gateway = await Gateway.start(t);
  const client = new Client(gateway.url);
  await client.connect();
  const subscription = client.subscribe("robots");
  await subscription[Symbol.asyncDispose]();
  await client[Symbol.asyncDispose]();

  assert.deepEqual(await subscription.next(), { done: true, value: undefined });
  assert.equal(client.state, "closed");
});
