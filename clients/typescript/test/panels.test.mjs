// A dashboard with 100 panels, each with its own subscription, within the gateway's limits.
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";

import { Client, RequestRefusedError } from "../dist/index.js";
import { eventually, Gateway } from "./support/gateway.mjs";
import { LACKING, Nginx } from "./support/nginx.mjs";

const COUNT = Number(process.env.PANELS ?? 100);
const NAMES = Array.from({ length: 100 }, (_, at) => `panel.n${at}`);

/** Returns a client that ends with its test, and the messages that it sends. */
function dashboard(t, gateway, options = {}) {
  const sent = [];
  class Recorded extends WebSocket {
    send(text) {
      sent.push(JSON.parse(text));
      super.send(text);
    }
  }
  const client = new Client(gateway.url, { WebSocket: Recorded, ...options });
  const errors = [];
  client.on("error", (error) => errors.push(error));
  t.after(() => client.disconnect());
  const mount = (names = NAMES) => names.map((name) => client.subscribe(name, () => {}, { last: 1 }));
  const count = (type) => sent.filter((one) => one.type === type).length;
  return { client, errors, mount, count };
}

const confirmed = (panels) => Promise.all(panels.map((one) => one.confirmed));

/** Waits until a client is subscribed to exactly these channels. */
async function following(client, names) {
  const wanted = JSON.stringify([...names].sort());
  await eventually(async () => JSON.stringify((await client.subscriptions().catch(() => [])).sort()) === wanted);
}

test("100 panels mount, unmount and survive a restart, with one message each time", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, errors, mount, count } = dashboard(t, gateway, { backoffMs: [10, 50] });
  const panels = mount();
  await client.connect();
  await confirmed(panels);
  assert.equal(count("subscribe"), 1);
  for (const one of panels.slice(0, 50)) one.close();
  await following(client, NAMES.slice(50));
  assert.equal(count("unsubscribe"), 1);

  await gateway.end();
  await gateway.start();
  await following(client, NAMES.slice(50));
  assert.equal(count("subscribe"), 2);
  assert.deepEqual(errors, []);
});

test("panels behind nginx survive its restart, each event once", { skip: LACKING }, async (t) => {
  const gateway = await Gateway.start(t, { "clients.subscriptions_max": COUNT + 28 });
  const nginx = await Nginx.start(t, gateway);
  const names = Array.from({ length: COUNT }, (_, at) => `panel.n${at}`);
  const { client, errors } = dashboard(t, nginx, { backoffMs: [10, 50] });
  const found = new Map(names.map((name) => [name, []]));
  const began = performance.now();
  const panels = names.map((name) => client.subscribe(name, (event) => found.get(name).push(event.data.n)));
  await client.connect();
  await confirmed(panels);
  const times = { mounted: performance.now() - began };
  const publish = (from, to) => Promise.all(names.map((name) => gateway.publish(name, from, to)));
  const received = (count) => eventually(() => [...found.values()].every((numbers) => numbers.length >= count), `${count} events for each panel`);
  await publish(1, 5);
  await received(5);

  await nginx.end();
  await publish(6, 10);
  await nginx.start();
  const restarted = performance.now();
  await following(client, names);
  times.restarted = performance.now() - restarted;
  await publish(11, 15);
  await received(15);
  for (const one of panels.slice(COUNT / 2)) one.close();
  await following(client, names.slice(0, COUNT / 2));

  const wanted = Array.from({ length: 15 }, (_, at) => at + 1);
  for (const [name, numbers] of found) assert.deepEqual(numbers, wanted, name);
  assert.deepEqual(errors, []);
  t.diagnostic(`${COUNT} panels, ms until confirmed: ${JSON.stringify(times)}`);
});

test("panels that change faster than the rate limit are subscribed in the end, and no others", async (t) => {
  const gateway = await Gateway.start(t, { "clients.subscribes_burst": 2, "clients.subscribes_per_second": 50 });
  const { client, errors, mount } = dashboard(t, gateway);
  await client.connect();
  const last = [];
  for (const name of NAMES) {
    const [first, second] = mount([name, `${name}.other`]);
    await setImmediate();
    first.close();
    last.push(second);
  }
  await confirmed(last);
  await following(client, last.flatMap((one) => one.channels));
  assert.deepEqual(errors, []);
});

test("panels refused by the rate limit are subscribed later, even if the clock is set back meanwhile", async (t) => {
  const gateway = await Gateway.start(t, { "clients.subscribes_burst": 2, "clients.subscribes_per_second": 20 });
  const { client, errors, mount } = dashboard(t, gateway);
  await client.connect();
  let now = Date.now();
  t.mock.method(Date, "now", () => (now -= 60_000));
  const panels = [];
  for (const name of NAMES.slice(0, 10)) {
    panels.push(...mount([name]));
    await setImmediate();
  }
  await confirmed(panels);
  assert.deepEqual(errors, []);
});

test("requests refused by the rate limit are sent again", async (t) => {
  const gateway = await Gateway.start(t, {
    "clients.pings_burst": 1, "clients.pings_per_second": 20,
    "clients.messages_burst": 1, "clients.messages_per_second": 20,
  });
  const { client, errors } = dashboard(t, gateway);
  await client.connect();
  const answers = await Promise.all([client.ping(), client.ping(), client.subscriptions(), client.subscriptions()]);

  assert.deepEqual(answers.slice(2), [[], []]);
  assert.deepEqual(errors, []);
});

test("a refused panel does not affect the others", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, errors, mount } = dashboard(t, gateway);
  await client.connect();
  const before = mount(NAMES.slice(0, 40));
  const wrong = client.subscribe("wrong", () => {}, { filter: "1 +" });
  const after = mount(NAMES.slice(40));

  await assert.rejects(wrong.confirmed, RequestRefusedError);
  await confirmed([...before, ...after]);
  await following(client, NAMES);
  assert.deepEqual(errors.map((error) => error.code), ["invalid_filter"]);
});

test("panels of one channel each begin at the position that they requested", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = dashboard(t, gateway);
  await client.connect();
  await gateway.hold("a", 1, 10);
  const counts = [0, 3, 10, 3].map((last) => {
    const found = [];
    client.subscribe(last === 10 ? "*" : "a", (event) => event.channel === "a" && found.push(event.data.n), { last });
    return { last, found };
  });
  await eventually(() => counts.every(({ last, found }) => found.length >= last));
  await client.ping();

  assert.deepEqual(counts.map(({ found }) => found.length), [0, 3, 10, 3]);
});
