import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:https";
import { join } from "node:path";
import { test } from "node:test";

import { Client, ClosedError, RequestRefusedError } from "../dist/index.js";
import { eventually, freeEndpoint, Gateway, PACKAGE, PYTHON, Relay, selfSigned, sendFrames } from "./support/gateway.mjs";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** Returns a client that ends with its test, and the events that it emitted. */
function follow(t, url, options) {
  const client = new Client(url, options);
  const seen = { states: [], gaps: [], errors: [], connected: [], disconnected: [] };
  client.on("state", (state) => seen.states.push(state));
  client.on("gap", (gap) => seen.gaps.push(gap));
  client.on("error", (error) => seen.errors.push(error));
  client.on("connected", (connected) => seen.connected.push(connected));
  client.on("disconnected", (disconnected) => seen.disconnected.push(disconnected));
  t.after(() => client.disconnect());
  return { client, seen };
}

/** Subscribes to a channel, and collects the numbers of its events. */
function numbers(client, channel, options) {
  const found = [];
  const subscription = client.subscribe(channel, (event) => found.push(event.data.n), options);
  return { found, subscription };
}

test("events of a channel arrive once, in order, with their position", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  const events = [];
  const subscription = client.subscribe("robots.r2", (event) => events.push(event));
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("robots.r2", 1, 500);
  await eventually(() => events.length >= 500);

  assert.deepEqual(events.map((event) => event.data.n), range(1, 500));
  assert.deepEqual(events.map((event) => event.offset), range(1, 500));
  assert.deepEqual(subscription.positions, { "robots.r2": { epoch: events[9].epoch, offset: 500 } });
  assert.deepEqual(seen.states, ["connecting", "connected"]);
  assert.deepEqual([seen.errors, seen.gaps], [[], []]);
});

test("a subscription made while connected begins with the current value", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = follow(t, gateway.url);
  await client.connect();
  await gateway.hold("a", 1, 10);
  const first = numbers(client, "a", { last: 3 });
  await eventually(() => first.found.length >= 3);
  const second = numbers(client, "a", { last: 1 });
  await eventually(() => second.found.length >= 1);
  await gateway.publish("a", 11);
  await eventually(() => first.found.includes(11) && second.found.includes(11));

  assert.deepEqual(first.found, [8, 9, 10, 11]);
  assert.deepEqual(second.found, [10, 11]);
});

test("a pattern matches channels that open later, and each event reaches all matching subscriptions", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = follow(t, gateway.url);
  const wild = numbers(client, "robots.>");
  const one = numbers(client, "robots.*.arm");
  await client.connect();
  await Promise.all([wild.subscription.confirmed, one.subscription.confirmed]);
  await gateway.publish("robots.r2.arm", 1, 3);
  await gateway.publish("robots.r3", 4);
  await eventually(() => wild.found.length >= 4);

  assert.deepEqual(wild.found, [1, 2, 3, 4]);
  assert.deepEqual(one.found, [1, 2, 3]);
});

test("bytes of a raw source are Uint8Array, those within MessagePack base64", async (t) => {
  const [raw, packed] = [await freeEndpoint(), await freeEndpoint()];
  const sources = [
    { endpoint: raw, mode: "bind", payload: "raw" },
    { endpoint: packed, mode: "bind", payload: "msgpack" },
  ];
  const gateway = await Gateway.start(t, { "bus.sources": JSON.stringify(sources) });
  const { client, seen } = follow(t, gateway.url);
  const found = { camera: [], packed: [] };
  const subscriptions = Object.entries(found).map(([name, all]) => client.subscribe(name, ({ data }) => all.push(data)));
  await client.connect();
  await Promise.all(subscriptions.map(({ confirmed }) => confirmed));
  const picture = Uint8Array.from({ length: 100_000 }, (_, at) => at % 256);
  await sendFrames(raw, "camera", picture);
  await sendFrames(raw, "camera", "");
  await sendFrames(packed, "packed", [0x81, 0xa1, 0x78, 0xc4, 3, 0xff, 0xd8, 0xff]);
  await eventually(() => found.camera.length === 2 && found.packed.length === 1);

  assert.deepEqual(found, { camera: [picture, new Uint8Array()], packed: [{ x: { base64: "/9j/" } }] });
  assert.deepEqual([seen.errors, seen.gaps], [[], []]);
});

test("one subscription can have several channels until it is closed", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  const { found, subscription } = numbers(client, ["a", "b.*", "$everyone"]);
  const { subscription: other } = numbers(client, ["a"]);
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 2);
  await gateway.publish("b.c", 3);
  await gateway.broadcast({ everyone: true }, { n: 4 });
  await eventually(() => found.length === 4);
  assert.deepEqual((await client.subscriptions()).sort(), ["a", "b.*"]);
  subscription.close();
  assert.deepEqual(await client.subscriptions(), ["a"]);
  other.close();

  assert.deepEqual(await client.subscriptions(), []);
  assert.deepEqual(found.sort(), [1, 2, 3, 4]);
  assert.ok((await client.ping()) > 0);
  assert.deepEqual(seen.errors, []);
});

test("the option `gaps` delivers gaps at their place among the events", async (t) => {
  const gateway = await Gateway.start(t, { "history.events_max": 5 });
  const { client } = follow(t, gateway.url);
  await client.connect();
  await gateway.hold("a", 1, 1);
  const first = client.subscribe("a", { last: 1 });
  const { value } = await first.next();
  await gateway.hold("a", 2, 20);
  const items = [];
  const since = { epoch: value.epoch, offset: 1 };
  for await (const item of client.subscribe("a", { since, gaps: true })) {
    items.push(item.type === "gap" ? [item.from, item.to] : item.data.n);
    if (items.length === 6) break;
  }

  assert.deepEqual(items, [[2, 15], ...range(16, 20)]);
});

test("iteration yields every event, and leaving the loop unsubscribes", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = follow(t, gateway.url);
  await client.connect();
  await gateway.hold("a", 1, 5);
  const found = [];
  for await (const event of client.subscribe("a", { last: 5 })) {
    found.push(event.data.n);
    if (found.length === 5) break;
  }

  assert.deepEqual(found, range(1, 5));
  await eventually(async () => (await gateway.clients())[0].channels.length === 0, "unsubscribed");
});

test("a slow iteration holds a bounded number of events and misses none", async (t) => {
  const gateway = await Gateway.start(t, { "history.events_max": 20_000 });
  const { client, seen } = follow(t, gateway.url);
  const slow = client.subscribe("a");
  const quick = numbers(client, "a");
  await client.connect();
  await slow.confirmed;
  await gateway.publish("a", 1, 10_000);
  await eventually(() => quick.found.length >= 10_000);
  const found = [];
  for await (const event of slow) if (found.push(event.data.n) === 10_000) break;

  assert.deepEqual(found, range(1, 10_000));
  assert.deepEqual(quick.found, range(1, 10_000));
  assert.deepEqual(seen.gaps, []);
});

test("a filter leaves out events that do not match", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = follow(t, gateway.url);
  const { found, subscription } = numbers(client, "a", { filter: "data.kind == 'rare'" });
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 9, { data: { kind: "common" } });
  await gateway.publish("a", 10, 12, { data: { kind: "rare" } });
  await eventually(() => found.length >= 3);

  assert.deepEqual(found, [10, 11, 12]);
});

test("a rate delivers the newest events, and counts those that they replace", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  const { found, subscription } = numbers(client, "a", { rate: 5 });
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 50);
  await eventually(() => found.includes(50) && found.length + subscription.conflated === 50);

  assert.deepEqual(seen.gaps, []);
  assert.deepEqual(found, [...found].sort((one, other) => one - other));
});

for (const session of ["held", "forgotten"]) {
  test(`after a lost connection each event arrives once (session ${session})`, async (t) => {
    const gateway = await Gateway.start(t, session === "held" ? {} : { "sessions.ttl_seconds": 0 });
    const relay = await Relay.start(t, gateway);
    const { client, seen } = follow(t, relay.url, { backoffMs: [5, 50] });
    const wild = numbers(client, "t.*");
    const named = numbers(client, "t.b");
    await client.connect();
    await Promise.all([wild.subscription.confirmed, named.subscription.confirmed]);
    for (let round = 0; round < 5; round += 1) {
      const sent = gateway.publish("t.b", round * 100 + 1, round * 100 + 100);
      relay.cut();
      await sent;
      await eventually(() => named.found.at(-1) === round * 100 + 100, `round ${round}`);
    }
    await gateway.publish("t.c", 1, 3);
    await eventually(() => wild.found.length >= 503);

    assert.deepEqual(named.found, range(1, 500));
    assert.deepEqual(wild.found, [...range(1, 500), 1, 2, 3]);
    assert.deepEqual([seen.gaps, seen.errors], [[], []]);
    assert.ok(seen.disconnected.length >= 4);
    assert.equal(seen.connected.at(-1).resumed, session === "held");
  });
}

for (const seed of [1, 2, 3]) {
  test(`connections that break anywhere, also within a message, neither lose nor duplicate events (seed ${seed})`, async (t) => {
    let drawn = seed;
    const random = (most) => (drawn = (drawn * 48271) % 2147483647) % most;
    const gateway = await Gateway.start(t, { "history.events_max": 10_000, "clients.subscribes_per_second": 1000 });
    const relay = await Relay.start(t, gateway);
    const { client, seen } = follow(t, relay.url, { backoffMs: [5, 50], buffer: 20 });
    const wild = [];
    client.subscribe("t.*", ({ channel, data }) => channel === "t.b" && wild.push(data.n));
    const { found } = numbers(client, "t.b");
    const slow = client.subscribe(["t.a", "t.b"]);
    await client.connect();
    await slow.confirmed;
    for (let batch = 0; batch < 30; batch += 1) {
      relay.cutAfter(random(30_000));
      await gateway.publish("t.b", batch * 100 + 1, batch * 100 + 100);
      await gateway.publish("t.a", batch + 1);
    }
    const taken = { "t.a": [], "t.b": [] };
    for await (const { channel, data } of slow) {
      taken[channel].push(data.n);
      if (random(20) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      if (random(1000) === 0) relay.cut();
      if (taken["t.a"].length === 30 && taken["t.b"].length === 3000) break;
    }
    await eventually(() => found.length >= 3000 && wild.length >= 3000);

    assert.deepEqual(taken, { "t.a": range(1, 30), "t.b": range(1, 3000) });
    assert.deepEqual(found, range(1, 3000));
    assert.deepEqual(wild, range(1, 3000));
    assert.deepEqual([seen.gaps, seen.errors], [[], []]);
    assert.ok(seen.disconnected.length > 3, String(seen.disconnected.length));
  });
}

for (const session of ["held", "forgotten"]) {
  test(`more channels than a URL has room for are resumed (session ${session})`, async (t) => {
    const ttl = session === "held" ? 300 : 0;
    const limits = { "clients.message_bytes_max": 12_000, "sessions.ttl_seconds": ttl };
    const gateway = await Gateway.start(t, limits);
    const relay = await Relay.start(t, gateway);
    const { client, seen } = follow(t, relay.url);
    const names = range(1, 150).map((n) => `t.channel-${n}`);
    const found = new Map(names.map((name) => [name, []]));
    client.subscribe("t.*", ({ channel, data }) => found.get(channel).push(data.n));
    await client.connect();
    const all = (count) => eventually(() => [...found.values()].every((one) => one.length >= count));
    for (const name of names) await gateway.publish(name, 1, 3);
    await all(3);
    relay.refusing = true;
    relay.cut();
    for (const name of names) await gateway.publish(name, 4, 5);
    relay.refusing = false;
    await all(5);
    for (const name of names) await gateway.publish(name, 6);
    await all(6);

    for (const name of names) assert.deepEqual(found.get(name), range(1, 6), name);
    assert.deepEqual([seen.gaps, seen.errors], [[], []]);
  });
}

test("events that the log has evicted meanwhile are a gap", async (t) => {
  const gateway = await Gateway.start(t, { "history.events_max": 10 });
  const relay = await Relay.start(t, gateway);
  const { client, seen } = follow(t, relay.url);
  const { found, subscription } = numbers(client, "a");
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 5);
  await eventually(() => found.length === 5);
  relay.refusing = true;
  relay.cut();
  await gateway.hold("a", 6, 100);
  relay.refusing = false;
  await eventually(() => found.includes(100));

  assert.deepEqual(found, [...range(1, 5), ...range(91, 100)]);
  assert.deepEqual(seen.gaps.map(({ from, to, reason }) => [from, to, reason]), [[6, 90, "evicted"]]);
});

test("positions in a publisher's epoch survive a restart of the gateway", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  const { found, subscription } = numbers(client, "a");
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 50);
  await eventually(() => found.length === 50);
  await gateway.end();
  assert.deepEqual(seen.disconnected.map(({ code, reason }) => [code, reason]), [[1012, "restart"]]);
  await gateway.start();
  await eventually(() => client.state === "connected");
  await gateway.publish("a", 51, 60); // may be lost on the bus; the next events show it
  await eventually(async () => {
    await gateway.publish("a", 61, 61);
    return found.includes(61);
  });

  const until = found.indexOf(61);
  const missed = seen.gaps.reduce((sum, gap) => sum + (gap.count ?? 0), 0);
  assert.deepEqual(found.slice(0, 50), range(1, 50));
  assert.equal(new Set(found.slice(0, until)).size, until);
  assert.ok(until === 60 || seen.gaps.length > 0, `${until} events, ${missed} missed`);
});

test("a restart of the publisher begins a new epoch", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  const { client, seen } = follow(t, relay.url);
  const { found, subscription } = numbers(client, "a");
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 3);
  await eventually(() => found.length === 3);
  const before = subscription.positions.a;
  await gateway.restartPublisher();
  await gateway.publish("a", 4, 6);
  await eventually(() => found.length === 6);
  relay.cut();
  await eventually(() => seen.connected.length === 2);
  await gateway.publish("a", 7, 8);
  await eventually(() => found.length === 8);

  assert.deepEqual(found, range(1, 8));
  assert.notEqual(subscription.positions.a.epoch, before.epoch);
  assert.equal(subscription.positions.a.offset, 5);
  const old = numbers(client, "a", { since: before });
  await eventually(() => old.found.length >= 5);
  assert.deepEqual(old.found, range(4, 8));
  await gateway.publish("a", 9);
  await eventually(() => old.found.length >= 6);
  assert.deepEqual(found, range(1, 9));
});

test("a later client resumes from the positions of an earlier one", async (t) => {
  const gateway = await Gateway.start(t);
  const first = follow(t, gateway.url);
  const before = numbers(first.client, "t.*");
  await first.client.connect();
  await before.subscription.confirmed;
  await gateway.publish("t.a", 1, 5);
  await eventually(() => before.found.length === 5);
  first.client.disconnect();
  await gateway.publish("t.a", 6, 8);
  await gateway.publish("t.b", 9);
  const second = follow(t, gateway.url);
  const after = numbers(second.client, "t.*", { since: before.subscription.positions });
  await second.client.connect();
  await eventually(() => after.found.length >= 4);

  assert.deepEqual(after.found.sort(), [6, 7, 8, 9]);
});

test("personal messages and those to everyone arrive once, across a lost connection", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  const { client, seen } = follow(t, relay.url, { userId: "ada" });
  const personal = numbers(client, "$personal");
  const everyone = numbers(client, "$everyone");
  const { client_id } = await client.connect();
  await gateway.broadcast({ client_id }, { n: 1 });
  await gateway.broadcast({ everyone: true }, { n: 1 });
  await eventually(() => personal.found.length === 1 && everyone.found.length === 1);
  relay.refusing = true;
  relay.cut();
  await eventually(() => client.state === "reconnecting");
  await gateway.broadcast({ user_id: "ada" }, { n: 2 });
  await gateway.broadcast({ everyone: true }, { n: 2 });
  relay.refusing = false;
  await eventually(() => seen.connected.length === 2);
  await gateway.broadcast({ user_id: "ada" }, { n: 3 });
  await gateway.broadcast({ everyone: true }, { n: 3 });
  await eventually(() => personal.found.includes(3) && everyone.found.includes(3));

  assert.deepEqual(personal.found, [1, 2, 3]);
  assert.deepEqual(everyone.found, [1, 2, 3]);
  assert.equal(client.info.client_id, client_id);
});

test("a silent connection is detected and replaced", async (t) => {
  const gateway = await Gateway.start(t, { "clients.heartbeat_seconds": 0.2 });
  const relay = await Relay.start(t, gateway);
  const { client, seen } = follow(t, relay.url);
  const { found, subscription } = numbers(client, "a");
  await client.connect();
  await subscription.confirmed;
  relay.silent = true;
  await eventually(() => seen.disconnected.length === 1);
  relay.silent = false;
  await gateway.publish("a", 1, 3);
  await eventually(() => found.length === 3);

  assert.equal(seen.disconnected[0].reason, "no answer from the gateway");
  assert.deepEqual(found, [1, 2, 3]);
});

test("a quiet connection that answers pings stays open", async (t) => {
  const gateway = await Gateway.start(t, { "clients.heartbeat_seconds": 0.1 });
  let pings = 0;
  class Counting extends WebSocket {
    send(text) {
      pings += JSON.parse(text).type === "ping";
      super.send(text);
    }
  }
  const { client, seen } = follow(t, gateway.url, { WebSocket: Counting });
  await client.connect();
  await eventually(() => pings > 5);

  assert.deepEqual(seen.disconnected, []);
});

test("a refused request is reported to the caller", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  await client.connect();
  const wrong = client.subscribe("not a channel");

  await assert.rejects(wrong.confirmed, (error) => error instanceof RequestRefusedError && error.code === "invalid_channel");
  await assert.rejects(wrong.next(), RequestRefusedError);
  assert.equal(seen.errors.length, 1);
  assert.equal(client.state, "connected");
});

test("a client does not reconnect after another took its session", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  const subscription = client.subscribe("a");
  const { session } = await client.connect();
  const other = new WebSocket(`${gateway.url}?session=${session}`);
  t.after(() => other.close());

  await assert.rejects(subscription.next(), (error) => error instanceof ClosedError && error.code === 4500);
  assert.equal(client.state, "closed");
  assert.deepEqual(seen.disconnected, [{ code: 4500, reason: "session_taken_over", retryMs: null }]);
});

test("a token is sent with the handshake, as a further subprotocol", async (t) => {
  const gateway = await Gateway.start(t);
  const offered = [];
  class Spy extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      offered.push(protocols);
    }
  }
  const { client } = follow(t, gateway.url, { token: async () => "a.b.c", WebSocket: Spy });
  await client.connect();

  assert.deepEqual(offered, [["neurograph", "bearer.a.b.c"]]);
  assert.equal(client.state, "connected");
});

test("a client waits for a gateway that starts later", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.end();
  const { client, seen } = follow(t, gateway.url);
  const tries = [];
  client.on("state", (state) => state === "reconnecting" && tries.push(client.retryAt));
  const began = Date.now();
  const connected = client.connect();
  await eventually(() => seen.states.filter((state) => state === "reconnecting").length >= 2);
  await gateway.start();
  await connected;

  assert.ok(tries.every((at) => at >= began), `${tries}`);
  assert.deepEqual([client.state, client.retryAt], ["connected", null]);
  assert.deepEqual(seen.disconnected, []);
});

test("each failed attempt is reported with its reason and the time of the next one", async (t) => {
  const { client, seen } = follow(t, "http://127.0.0.1:9", { backoffMs: [1, 5] });
  const failed = [];
  client.on("connectFailed", (one) => failed.push(one));
  client.connect().catch(() => {});
  await eventually(() => failed.length >= 3);

  assert.deepEqual(failed.slice(0, 3).map(({ code, attempt }) => [code, attempt]), [[1006, 1], [1006, 2], [1006, 3]]);
  for (const { reason, retryAt, hint } of failed) {
    assert.ok(reason.length > 0 && retryAt > 0, JSON.stringify({ reason, retryAt }));
    assert.equal(hint, undefined, "hints are for pages only");
  }
  assert.deepEqual(seen.disconnected, []);
});

test("an untrusted certificate is the reported reason, which Node's WebSocket hides", async (t) => {
  const server = createServer(await selfSigned());
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  const { client } = follow(t, `https://127.0.0.1:${server.address().port}`, { backoffMs: [1, 5] });
  const failed = new Promise((resolve) => client.on("connectFailed", resolve));
  client.connect().catch(() => {});
  const { reason } = await failed;

  assert.match(reason, /^the gateway's certificate is not trusted: self-signed certificate; if .* NODE_EXTRA_CA_CERTS to its file$/);
});

test("connect rejects after its timeout and when its signal aborts", async (t) => {
  const { client } = follow(t, "http://127.0.0.1:9", { backoffMs: [1, 5] });
  await assert.rejects(client.connect({ timeoutMs: 300 }), { name: "NotConnectedError", message: /^no connection in 300 ms: ./ });
  assert.equal(client.state, "closed");

  const leaving = new AbortController();
  const connecting = client.connect({ signal: leaving.signal });
  leaving.abort(new Error("the page was left"));
  await assert.rejects(connecting, /the page was left/);
  assert.equal(client.state, "closed");
  await assert.rejects(client.connect({ signal: leaving.signal }), /the page was left/);
});

test("a handler that throws does not affect others", async (t) => {
  const gateway = await Gateway.start(t);
  const { client, seen } = follow(t, gateway.url);
  client.subscribe("a", () => {
    throw new Error("mine");
  });
  client.subscribe("a", async () => {
    throw new Error("later");
  });
  const { found, subscription } = numbers(client, "a");
  await client.connect();
  await subscription.confirmed;
  await gateway.publish("a", 1, 2);
  await eventually(() => seen.errors.length === 4);

  assert.deepEqual(found, [1, 2]);
});

test("disconnect ends iterations, and leaves no timer or socket", async (t) => {
  const gateway = await Gateway.start(t);
  const program = `
    import { Client } from ${JSON.stringify(join(PACKAGE, "dist/index.js"))};
    const client = new Client(${JSON.stringify(gateway.url)});
    const events = client.subscribe("metrics");
    await client.connect();
    setTimeout(() => client.disconnect(), 50);
    for await (const event of events) console.log("never");
    const away = new Client("ws://127.0.0.1:1/ws");
    away.on("state", (state) => state === "reconnecting" && away.disconnect());
    await away.connect().catch((error) => console.log(error.name, client.state, away.state));
  `;
  const arguments_ = ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program];
  const ended = spawnSync(process.execPath, arguments_, { timeout: 60_000, encoding: "utf8" });

  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, "ClosedError closed closed\n", ""]);
});

test("the models are those of the gateway", () => {
  const script = join(PACKAGE, "scripts/models.py");
  const checked = spawnSync(PYTHON, [script, "--check"], { encoding: "utf8" });

  assert.equal(checked.status, 0, checked.stderr);
});

test("probable mistakes are warnings", async (t) => {
  const gateway = await Gateway.start(t);
  const { client } = follow(t, gateway.url);
  const warnings = [];
  client.on("warning", (text) => warnings.push(text));
  await gateway.hold("robots", 1);
  await client.connect();
  const failing = client.subscribe("robots", () => {}, { filter: "data.missing > 1" });
  const misspelt = client.subscribe(["robot", "robots"], () => {});
  await Promise.all([failing.confirmed, misspelt.confirmed]);
  await gateway.publish("robots", 2);
  await eventually(() => warnings.length >= 2);

  assert.equal(warnings[0], "no such channel yet: `robot`; did you mean `robots`?");
  assert.match(warnings[1], /^the filter of `robots` failed on 1 event/);
});
