// The page on small and large screens, with many channels, many events, and in the background.
import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually, Gateway } from "../../typescript/test/support/gateway.mjs";
import { rows, show, watch } from "./support/page.mjs";

const MIB = 2 ** 20;
const LONG = "a.channel-with-a-very-long-name".repeat(4);
/** Returns the parts of a view that overlap and must not. */
const OVERLAPS = `(() => {
  const parts = [...document.querySelectorAll("header > *, nav a, main h1, main h2, .card, .toolbar > *, .rates li, th, .tabs button")]
    .map((one) => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width && box.height);
  const found = [];
  for (const [n, [one, a]] of parts.entries()) for (const [other, b] of parts.slice(n + 1)) {
    if (one.contains(other) || other.contains(one) || one.closest("header") || other.closest("nav") || one.closest("nav")) continue;
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) found.push([one.textContent.slice(0, 30), other.textContent.slice(0, 30)]);
  }
  return found;
})()`;

const used = async (page) => {
  await page.call("HeapProfiler.collectGarbage");
  return (await page.call("Runtime.getHeapUsage")).usedSize;
};

test("no view is wider than the screen or has parts that overlap, from 360 px to 4K", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 9, { data: { host: "a-host-with-a-long-name.example.internal", cpu_percent: 12.5, memory_percent: 40 } });
  await gateway.hold("logs", 1, 4, { data: { level: "error", message: "m".repeat(400), service: "s".repeat(80) } });
  await gateway.hold(LONG, 1, 4);
  await gateway.hold("signals", 1, 2, { data: { event_id: 1, is_novel: true, priority: 7 }, event_type: "signal.text" });
  await gateway.hold("actions", 1, 2, { data: { action_id: 1, status: "failed", error: "e".repeat(200) } });
  const page = await show(t, gateway);
  const views = ["overview", "channels", `channels/${LONG}`, "channels/metrics?tab=chart", "channels/metrics?tab=values", "logs", "signals", "actions", "publishers", "clients", "send", "about"];
  for (const [width, height, lang] of [[360, 640, "ru"], [3840, 2160, "en"]]) {
    await page.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    for (const view of views) {
      await page.go(`#/${view}${view.includes("?") ? "&" : "?"}lang=${lang}`);
      await eventually(() => page.shows(view), `${view} is shown`);
      assert.ok(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), `${view} is wider than ${width}`);
      assert.deepEqual(await page.evaluate(OVERLAPS), [], `${view} at ${width}`);
    }
  }
});

test("visible parts of a view do not move while it loads", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 9, { data: { host: "alpha", cpu_percent: 12.5, memory_percent: 40 } });
  await gateway.hold("logs", 1, 40, { data: { level: "error", message: "m", service: "s" } });
  await gateway.hold("signals", 1, 40, { data: { event_id: 1, is_novel: true, priority: 7 }, event_type: "signal.text" });
  await gateway.hold("actions", 1, 40, { data: { action_id: 1, status: "completed", execution_time_ms: 3 } });
  const page = await show(t, gateway);
  await eventually(() => page.count("[data-card]"));
  let metrics = 9;
  const base = (await page.evaluate("location.href")).replace(/#.*/, "");
  const content = {
    overview: "[data-host]", channels: "[data-channel]", "channels/logs": ".row", "channels/metrics?tab=chart": "[data-series]", "channels/metrics?tab=values": "[data-key]",
    "channels/metrics?tab=about": "dd", logs: ".row", signals: ".row", actions: ".row", publishers: "[data-topic]", clients: "[data-client]", send: "form", about: "dd",
  };
  for (const [view, selector] of Object.entries(content)) {
    for (const [width, height] of [[1280, 800], [360, 640]]) {
      await page.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
      await page.call("Page.navigate", { url: "about:blank" });
      await page.call("Page.navigate", { url: `${base}#/${view}` });
      await eventually(() => page.count(selector));
      if (view === "overview") {
        const seen = `Number(document.querySelector(".meter").textContent.replace(/[^0-9]/g, "")) === ${100 - (metrics += 1)}`;
        await gateway.hold("metrics", metrics, metrics, { data: { host: "alpha", cpu_percent: 100 - metrics, memory_percent: 4, memory_mb: 1234567.8 } });
        await eventually(() => page.evaluate(seen), "the new figures are shown");
      }
      const { shifts, paint } = await page.evaluate(`new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))).then(() => {
        const observer = new PerformanceObserver(() => {});
        observer.observe({ type: "layout-shift", buffered: true });
        // Rows that move down for newer ones are allowed.
        const inRows = ({ node }) => (node?.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.closest(".rows");
        const moved = observer.takeRecords().filter(({ sources }) => !sources.every(inRows));
        const shifts = moved.map(({ value, sources }) => [value, sources.map(({ node }) => node?.textContent.slice(0, 80))]);
        return { shifts, paint: Math.round(performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1) };
      })`);
      if (view === "overview") t.diagnostic(`first contentful paint at ${width} px after ${paint} ms`);
      assert.deepEqual(shifts, [], `${view} at ${width}`);
    }
  }
});

test("500 channels with thousands of events are all listed, and no event is drawn twice or is missing", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  const publish = async (from, to) => {
    for (let n = 0; n < 500; n += 1) await gateway.publish(`many.c${n}`, from, to);
  };
  await publish(1, 1);
  const page = await show(t, gateway, "#/channels");
  await eventually(async () => (await page.count('[data-channel^="many."]')) === 500, "all are listed");
  await page.call("HeapProfiler.enable");
  const seen = await watch(page, "[data-channel]");
  const before = await used(page);
  for (let from = 2; from < 22; from += 4) await publish(from, from + 3); // 2,000 each time
  const newest = "[...document.querySelectorAll('[data-channel^=\"many.\"] .data')].filter((one) => one.textContent === '{\"n\":21}').length";
  await eventually(async () => (await page.evaluate(newest)) === 500, "each shows its newest event");

  const { rowsMost, longShare } = await seen();
  // The duration of tasks depends on the machine, and is only printed; the number of rows per drawing depends on the page.
  t.diagnostic(`10,000 events on 500 channels: at most ${rowsMost} rows at once, ${Math.round(longShare * 100)} % of the time in long tasks`);
  assert.ok(rowsMost > 0 && rowsMost <= 25, `${rowsMost} rows at once`);
  assert.ok((await used(page)) < before + 8 * MIB);
  await page.go("#/channels/many.c499");
  await eventually(async () => (await page.count(".row")) === 21);
  assert.deepEqual(await rows(page), Array.from({ length: 21 }, (_, n) => n + 1));
});

test("half an hour of a busy system, on every view, does not make the page larger", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.2 });
  const kinds = {
    metrics: { data: { host: "alpha", cpu_percent: 12.5 } },
    logs: { data: { level: "info", message: "m", service: "s" } },
    signals: { data: { event_id: 1, priority: 7 }, event_type: "signal.text" },
    actions: { data: { action_id: 1, status: "completed", execution_time_ms: 3 } },
  };
  const page = await show(t, gateway);
  await page.call("HeapProfiler.enable");
  const sizes = [];
  for (let round = 0; round < 3; round += 1) {
    for (const [view, channel] of [["overview", "metrics"], ["logs", "logs"], ["signals", "signals"], ["actions", "actions"]]) {
      await page.go(`#/${view}`);
      const from = round * 1_200 + 1; // 3,600 of each: two a second
      await gateway.hold(channel, from, from + 1_199, kinds[channel]);
      await eventually(() => page.count("main .row, main [data-host]"));
    }
    await page.go("#/overview");
    await eventually(() => page.count("[data-host]"));
    sizes.push(await used(page));
  }

  assert.ok(sizes[2] < sizes[0] + 3 * MIB, `${sizes}`);
});

test("a page in the background draws nothing, and shows everything once it is visible again", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("a", 1, 3);
  const page = await show(t, gateway, "#/channels/a");
  await eventually(async () => (await page.count(".row")) === 3);
  const { targetInfos } = await page.call("Target.getTargets");
  const own = targetInfos.find(({ url }) => url.includes("#/channels/a")).targetId;
  const { targetId } = await page.call("Target.createTarget", { url: "about:blank", background: false });
  await page.call("Target.activateTarget", { targetId });
  await eventually(() => page.evaluate("document.hidden"), "it is hidden");
  await gateway.hold("a", 4, 400);
  await eventually(async () => (await gateway.clients()).every(({ lag, buffered }) => !lag && !buffered));
  assert.equal(await page.count(".row"), 3);
  await page.call("Target.activateTarget", { targetId: own });
  await eventually(async () => (await rows(page)).at(-1) === 400);

  assert.equal(await page.count("[data-gap]"), 0);
  assert.equal(await page.evaluate("document.querySelector('[data-count]').dataset.count"), "400");
});
