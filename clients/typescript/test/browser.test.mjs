import assert from "node:assert/strict";
import { test } from "node:test";

import { openReady, serve } from "./support/browser.mjs";
import { eventually, Gateway, Relay } from "./support/gateway.mjs";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** Opens a page in which a client subscribes to `a`, and collects numbers, gaps and states. */
async function follow(t, url) {
  const page = await openReady(t, await serve(t));
  await page.evaluate(`(async () => {
    const { Client } = await import("/dist/index.js");
    window.client = new Client(${JSON.stringify(url)});
    window.found = [];
    window.seen = [];
    for (const name of ["gap", "error", "disconnected"]) client.on(name, (value) => seen.push([name, value]));
    const subscription = client.subscribe("a", (event) => found.push(event.data.n));
    await client.connect();
    await subscription.confirmed;
  })()`);
  return page;
}

test("the built modules work in a browser without bundling", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await follow(t, gateway.url);
  await gateway.publish("a", 1, 100);
  await eventually(() => page.evaluate("found.length >= 100"));

  assert.deepEqual(await page.evaluate("found"), range(1, 100));
  assert.deepEqual(await page.evaluate("seen"), []);
  assert.equal(await page.evaluate("client.disconnect(), client.state"), "closed");
  await eventually(async () => (await gateway.clients()).length === 0, "disconnected");
});

test("a page that was frozen for too long reconnects and misses nothing", async (t) => {
  const gateway = await Gateway.start(t, {
    "clients.heartbeat_seconds": 0.5,
    "clients.heartbeat_timeout_seconds": 0.5,
  });
  const relay = await Relay.start(t, gateway);
  const page = await follow(t, relay.url);
  await page.call("Page.setWebLifecycleState", { state: "frozen" });
  await gateway.hold("a", 1, 50);
  relay.cut();
  await eventually(async () => (await gateway.clients()).length === 0, "the gateway has closed the connection");
  await gateway.hold("a", 51, 100);
  await page.call("Page.setWebLifecycleState", { state: "active" });
  await eventually(() => page.evaluate("found.includes(100)"));

  assert.deepEqual(await page.evaluate("found"), range(1, 100));
  assert.deepEqual(await page.evaluate("seen.filter(([name]) => name !== 'disconnected')"), []);
});

test("a page that is online again reconnects at once", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  const page = await follow(t, relay.url);
  await page.evaluate("Math.random = () => 1000"); // pauses of minutes
  relay.refusing = true;
  relay.cut();
  await eventually(() => page.evaluate("client.state === 'reconnecting'"));
  relay.refusing = false;
  await page.evaluate("dispatchEvent(new Event('online'))");
  await eventually(() => page.evaluate("client.state === 'connected'"));
  await gateway.publish("a", 1, 3);
  await eventually(() => page.evaluate("found.length >= 3"));

  assert.deepEqual(await page.evaluate("found"), [1, 2, 3]);
});

test("a page that is visible again reconnects, though its timers do not run", async (t) => {
  const gateway = await Gateway.start(t, { "clients.heartbeat_seconds": 1 });
  const relay = await Relay.start(t, gateway);
  const page = await follow(t, relay.url);
  await page.evaluate("setTimeout = () => 0"); // no timer ever fires, as while a laptop sleeps
  relay.silent = true;
  await gateway.hold("a", 1, 3);
  relay.silent = false;
  relay.cut();
  await eventually(() => page.evaluate("client.state === 'reconnecting'"));
  await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))");
  await eventually(() => page.evaluate("found.length >= 3"));

  assert.deepEqual(await page.evaluate("found"), [1, 2, 3]);
});

test("the browser's own EventSource reconnects and misses nothing", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  const page = await openReady(t, `${relay.url.replace(/^ws/, "http")}/`);
  await page.evaluate(`(async () => {
    window.found = [];
    window.source = new EventSource("/events?channels=a,b");
    source.onmessage = (message) => found.push([JSON.parse(message.data).channel, JSON.parse(message.data).data.n]);
    await new Promise((subscribed) => source.addEventListener("subscribed", subscribed, { once: true }));
  })()`);
  await gateway.publish("a", 1, 10);
  await gateway.publish("b", 1, 10);
  await eventually(() => page.evaluate("found.length >= 20"));
  relay.cut();
  await gateway.publish("a", 11, 20);
  await gateway.publish("b", 11, 20);
  await eventually(() => page.evaluate("found.length >= 40"));

  const found = await page.evaluate("found");
  for (const channel of ["a", "b"]) {
    assert.deepEqual(found.filter(([name]) => name === channel).map(([, n]) => n), range(1, 20));
  }
  await page.evaluate("source.close()");
});

test("a page whose origin is not allowed gets a hint what to check", async (t) => {
  const gateway = await Gateway.start(t, { allowed_origins: "https://other.example" });
  const address = await serve(t);
  const page = await openReady(t, address);
  await page.evaluate(`(async () => {
    const { Client } = await import("/dist/index.js");
    window.failed = [];
    const client = new Client(${JSON.stringify(gateway.url)}, { backoffMs: [10, 20] });
    client.on("connectFailed", (one) => failed.push(one));
    client.connect().catch(() => {});
  })()`);
  await eventually(() => page.evaluate("failed.length >= 3"));

  const [first, second, third] = await page.evaluate("failed");
  assert.deepEqual([first.hint, second.hint], [undefined, undefined]);
  assert.match(third.hint, new RegExp(`add "${new URL(address).origin}" to its setting \`allowed_origins\``));
});
