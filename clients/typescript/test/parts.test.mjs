import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { addressOf, resuming } from "../dist/address.js";
import { matches } from "../dist/channels.js";
import { EventStream } from "../dist/event-stream.js";
import { Heartbeat } from "../dist/heartbeat.js";
import { delayAfter, mayReconnect } from "../dist/reconnect.js";
import { Track } from "../dist/track.js";

const gap = (epoch, from, to, reason = "evicted") => ({ type: "gap", channel: "a", epoch, from, to, count: 1, reason });

test("an event is new once, in each epoch", () => {
  const track = new Track({ epoch: "x", offset: 5 });

  assert.deepEqual([5, 6, 9, 9, 7].map((offset) => track.takes("x", offset)), [false, true, true, false, false]);
  assert.equal(track.takes("y", 1, true), true);
  assert.deepEqual(track.position, { epoch: "y", offset: 1 }, "no other source is live");
  assert.equal(track.takes("x", 9), false);
  assert.deepEqual(track.position, { epoch: "y", offset: 1 });
});

test("events up to a subscription's position are not new", () => {
  const track = new Track({ epoch: "y", offset: 5 });
  track.rewind({ epoch: "x", offset: 89 });

  assert.deepEqual([track.takes("x", 90), track.takes("x", 91)], [false, false]);
  assert.equal(track.misses(gap("x", 92, 93)), null);
  assert.deepEqual([track.takes("y", 5), track.takes("y", 6)], [false, true]);
  track.rewind({ epoch: "x", offset: 89 });
  assert.equal(track.takes("x", 94), false);
  assert.equal(track.misses(gap("z", null, 7)).to, 7, "the log no longer holds it");
  assert.equal(track.takes("z", 8), true);
});

test("a position names each source that is live", () => {
  const track = new Track({ epoch: "x", offset: 5, others: { y: 2 } });

  assert.deepEqual([track.takes("z", 1), track.takes("y", 2), track.takes("y", 3)], [true, false, true]);
  assert.deepEqual(track.position, { epoch: "y", offset: 3, others: { x: 5, z: 1 } });
  assert.equal(track.misses(gap("x", null, null, "epoch")).epoch, "x");
  assert.deepEqual(track.position, { epoch: "y", offset: 3, others: { z: 1 } });
  assert.equal(track.misses({ ...gap("z", null, null, "epoch"), count: 0 }), null, "nothing is missing");
  assert.deepEqual(track.position, { epoch: "y", offset: 3 });
  assert.equal(track.takes("x", 5), false, "events of an ended source are not new");
});

test("sources continue independently of each other", () => {
  const track = new Track({ epoch: "x", offset: 5, others: { y: 2 } });
  track.rewind({ epoch: "y", offset: 2, others: { x: 5, z: 0 } });

  assert.deepEqual([track.takes("z", 1), track.takes("y", 3), track.takes("x", 6)], [true, true, true]);
  track.rewind({ epoch: "x", offset: 4, others: { y: 1, over: 7 } });
  assert.deepEqual([track.takes("over", 8), track.takes("y", 2), track.takes("y", 4)], [false, false, true]);
  assert.deepEqual([track.takes("new", 1), track.takes("x", 7)], [true, true]);
});

test("a subscription is behind if it is behind in one source", () => {
  const [first, second] = [new Track({ epoch: "x", offset: 5, others: { y: 2 } }), new Track({ epoch: "x", offset: 5 })];
  second.takes("y", 3);

  assert.deepEqual([first.isBehind(second), second.isBehind(first)], [true, false]);
});

test("a gap is reported once, as far as it is new", () => {
  const track = new Track({ epoch: "x", offset: 5 });

  assert.deepEqual([track.misses(gap("x", 4, 8)).from, track.position.offset], [6, 8]);
  assert.equal(track.misses(gap("x", 4, 8)), null);
  assert.equal(track.misses(gap("x", 9, 12, "conflated")).to, 12);
  assert.deepEqual([10, 12].map((offset) => track.takes("x", offset)), [true, true]);
  assert.equal(track.misses(gap("y", null, null, "epoch")).reason, "epoch");
  assert.deepEqual(track.position, { epoch: "x", offset: 12 });
});

test("past epochs are remembered up to a limit", () => {
  const track = new Track({ epoch: "0", offset: 1 });
  for (let epoch = 1; epoch <= 1000; epoch += 1) track.takes(String(epoch), 1);

  assert.equal(track.takes("999", 1), false);
  assert.equal(track.takes("0", 1), true);
});

test("patterns select as they do in the gateway", () => {
  const cases = [
    ["a.b", "a.b", true], ["a.*", "a.b", true], ["a.*", "a", false], ["a.*", "a.b.c", false],
    ["a.>", "a.b.c", true], ["a.>", "a", false], [">", "a.b", true], ["*.b", "a.b", true],
    [">", "$everyone", false], ["*", "$personal", false], ["$personal", "$personal", true],
  ];

  for (const [pattern, name, wanted] of cases) assert.equal(matches(pattern, name), wanted, `${pattern} ${name}`);
});

test("addresses may be written in several forms", () => {
  const written = ["http://h", "https://h/", "ws://h:1/x?a=b", "wss://h/x/ws"].map((text) => addressOf(text).href);

  assert.deepEqual(written, ["ws://h/ws", "wss://h/ws", "ws://h:1/x/ws?a=b", "wss://h/x/ws"]);
  assert.throws(() => addressOf("ftp://h"), TypeError);
  assert.equal(addressOf("h:8000/x").href, "ws://h:8000/x/ws");
  assert.throws(() => addressOf("h"), TypeError);
});

test("a URL that resumes stays short for any number of channels", () => {
  const all = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`c${n}`, { epoch: "0".repeat(16), offset: n }]));
  const url = new URL(resuming(addressOf("ws://h?user_id=ada"), "secret", all));
  const since = JSON.parse(url.searchParams.get("since"));

  assert.ok(url.href.length < 5000 && Object.keys(since).length > 20);
  assert.deepEqual(since.c1, all.c1);
  assert.deepEqual([url.searchParams.get("session"), url.searchParams.get("user_id")], ["secret", "ada"]);
});

test("pauses grow up to 20 s and are random", () => {
  const longest = (attempt) => Math.max(...Array.from({ length: 2000 }, () => delayAfter(attempt, [500, 20_000])));

  assert.deepEqual([0, 1, 3, 9, 2000].map((attempt) => Math.ceil(longest(attempt) / 500) * 500), [500, 1000, 4000, 20000, 20000]);
  assert.notEqual(delayAfter(5, [500, 20_000]), delayAfter(5, [500, 20_000]));
});

test("a close code decides whether to reconnect, unless a `closing` message does", () => {
  assert.deepEqual([1000, 1006, 1012, 4000, 4499].map((code) => mayReconnect(code, null)), Array(5).fill(true));
  assert.deepEqual([1002, 1009, 4500, 4999].map((code) => mayReconnect(code, null)), Array(4).fill(false));
  assert.equal(mayReconnect(1012, { reconnect: false }), false);
  assert.equal(mayReconnect(4500, { reconnect: true }), true);
});

/** A heartbeat of 30 s, on a clock that the test moves. */
function heartbeat(t) {
  const calls = [];
  const timers = mock.timers;
  timers.enable({ apis: ["setTimeout", "Date"] });
  t.after(() => timers.reset());
  const watched = new Heartbeat(() => calls.push("asked"), () => calls.push("dead"));
  watched.start(30_000);
  return { calls, timers, watched };
}

test("silence causes a ping, and its answer restarts the wait", (t) => {
  const { calls, timers, watched } = heartbeat(t);
  timers.tick(29_000);
  assert.deepEqual(calls, []);
  timers.tick(1_000);
  assert.deepEqual(calls, ["asked"]);
  timers.tick(5_000);
  watched.heard();
  timers.tick(29_000);
  assert.deepEqual(calls, ["asked"]);
  timers.tick(1_000);
  timers.tick(10_000);
  assert.deepEqual(calls, ["asked", "asked", "dead"]);
});

test("after a late timer a second ping is sent before the connection is given up", (t) => {
  const { calls, timers } = heartbeat(t);
  timers.tick(30_000);
  timers.setTime(Date.now() + 3_600_000); // the machine sleeps, so timers fire late
  timers.tick(10_000);
  assert.deepEqual(calls, ["asked", "asked"]);
  timers.tick(10_000);
  assert.deepEqual(calls, ["asked", "asked", "dead"]);
});


/** Stands for a browser's EventSource; `opened` has all that were made. */
class Source extends EventTarget {
  CLOSED = 2;
  readyState = 1;
  static opened = [];
  constructor(address) {
    super();
    this.address = new URL(address);
    Source.opened.push(this);
  }
  close() {
    this.readyState = 2;
  }
  /** The browser gives up, or reconnects by itself. */
  fail(readyState) {
    this.readyState = readyState;
    this.onerror(new Event("error"));
  }
  send(message, lastEventId, name = message.type) {
    const event = new MessageEvent(name, { data: JSON.stringify(message), lastEventId });
    if (name === "event") this.onmessage(event);
    else this.dispatchEvent(event);
  }
}

const subscribed = (offset, recovered = {}) => ({ type: "subscribed", positions: { a: { epoch: "x", offset } }, recovered });
const event = (offset, more = {}) => ({ type: "event", channel: "a", offset, data: offset, ...more });

/** A stream, what it hands out, and `source()` for its newest EventSource. */
function stream(t) {
  t.mock.timers.reset();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  Source.opened = [];
  const taken = [];
  const one = new EventStream("http://gateway.test/events?channels=a", (message) => taken.push(message), { EventSource: Source });
  return { one, taken, source: () => Source.opened.at(-1) };
}

test("a stream that the browser has given up continues after its last event", (t) => {
  const { taken, source } = stream(t);
  source().send(subscribed(0), "a=x:0");
  source().send(event(1), "a=x:1");
  source().fail(2);
  t.mock.timers.tick(500);
  source().fail(2);
  t.mock.timers.tick(1000);
  source().send(subscribed(1, { a: true }), "a=x:1");
  source().send(event(2), "a=x:2");

  assert.equal(Source.opened.length, 3);
  assert.equal(source().address.search, "?channels=a&lastEventId=a=x:1"); // if it were encoded, long ids would not fit
  assert.deepEqual(taken.filter(({ type }) => type === "event").map(({ data, epoch }) => [data, epoch]), [[1, "x"], [2, "x"]]);
});

test("a stream that the browser reopens is not replaced, and delivers nothing twice", (t) => {
  const { taken, source } = stream(t);
  source().send(subscribed(0), "a=x:0");
  source().send(event(1), "a=x:0");
  source().send(event(2), "a=x:0"); // the last event of the write, which has the id, was cut off
  source().fail(0);
  t.mock.timers.tick(60_000);
  source().send(subscribed(0, { a: true }), "a=x:0");
  for (const offset of [1, 2, 3]) source().send(event(offset), "a=x:3");

  assert.equal(Source.opened.length, 1);
  assert.deepEqual(taken.filter(({ type }) => type === "event").map(({ data }) => data), [1, 2, 3]);
});

test("personal messages after a reconnect are new, though the new session numbers them from 1", (t) => {
  const { taken, source } = stream(t);
  const personal = { channel: "$personal", epoch: "p" };
  source().send({ type: "connected" }, "");
  source().send(event(1, personal), "$personal=p:1");
  source().fail(0);
  source().send({ type: "connected" }, "");
  source().send(event(1, personal), "$personal=p:1");

  assert.equal(taken.filter(({ type }) => type === "event").length, 2);
});

test("a stream ends after a `closing` message that forbids to reconnect, or when it is closed", (t) => {
  const { one, taken, source } = stream(t);
  source().send({ type: "closing", code: 4501, reconnect: false, after_ms: 0 }, "");
  assert.equal(source().readyState, 2);
  assert.equal(taken.length, 1);

  const other = stream(t);
  other.source().fail(2);
  other.one.close();
  one.close();
  t.mock.timers.tick(60_000);
  assert.equal(Source.opened.length, 1);
});
