// The page in a real Chromium, served by a real gateway, with real publishers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";

import { open, serve } from "../../typescript/test/support/browser.mjs";
import { eventually, Gateway, PYTHON, Relay } from "../../typescript/test/support/gateway.mjs";
import { ENTER, press, rows, SECRET, show, signIn, TAB, watch } from "./support/page.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** A publisher that sends messages numbered 1, 2 and 8, and keeps none for replay. */
const LOSING = `
import struct, sys, time, zmq
with zmq.Context() as context, context.socket(zmq.XPUB) as pub:
    pub.connect(sys.argv[1])
    pub.recv()
    for n in (1, 2, 8):
        envelope = b"NGE1" + struct.pack(">IQQQ", 0, 7, n, time.time_ns())
        pub.send_multipart([b"a", b'{"n": %d}' % n, envelope])
`;
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test("the page shows all published events, first the history and then live", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 3, { data: { host: "alpha", cpu_percent: 12.5, memory_percent: 40, load_1m: 0.75 } });
  const page = await show(t, gateway);
  await eventually(() => page.text('[data-host="alpha"]'));

  assert.match(await page.text('[data-host="alpha"]'), /^alpha12\.5 %40 %0\.75$/);
  await gateway.publish("metrics", 4, 4, { data: { host: "beta", cpu_percent: 88 } });
  await eventually(async () => /88 %/.test((await page.text('[data-host="beta"]')) ?? ""));
  await eventually(async () => (await page.text('[data-card="card.clients"] .value')) === "1");
  assert.match(await page.text(".verdict"), /Everything is well/);

  await page.go("#/channels/metrics");
  await eventually(async () => (await page.count(".row")) === 4);
  assert.deepEqual(await rows(page), [1, 2, 3, 4]);

  await page.go("#/channels/metrics?tab=chart&fields=n");
  await eventually(async () => (await page.count("[data-series]")) === 2);
  const points = () => page.evaluate("[...document.querySelectorAll('[data-series]')].map(({ dataset }) => [dataset.series, dataset.points])");
  assert.deepEqual(await points(), [["n · alpha", "3"], ["n · beta", "1"]]);
  await gateway.publish("metrics", 5, 6, { data: { host: "beta" } });
  await eventually(async () => (await points())[1][1] === "3");
  assert.equal(await page.evaluate("document.querySelector('[data-series=\"n · beta\"] [data-value]').dataset.value"), "6");

  await page.go("#/channels/metrics?tab=values&sort=n+down");
  await eventually(async () => (await page.count("[data-key]")) === 2);
  assert.deepEqual(await page.evaluate("[...document.querySelectorAll('[data-key]')].map(({ dataset }) => dataset.key)"), ["beta", "alpha"]);
  assert.deepEqual(await page.evaluate("[...document.querySelectorAll('th[aria-sort]')].map((th) => [th.textContent, th.getAttribute('aria-sort')])"), [["n ▼", "descending"]]);
});

test("the page misses nothing when the gateway is killed and restarted, and says so", async (t) => {
  // Long enough to receive the publisher's heartbeat, and its replay.
  const gateway = await Gateway.start(t, { "bus.discovery_seconds": 3 });
  await gateway.hold("a", 1, 20, { replay: 1_000 });
  const page = await show(t, gateway, "#/channels/a");
  await eventually(async () => (await page.count(".row")) === 20);
  await gateway.end("SIGKILL");
  await eventually(async () => (await page.state()) === "reconnecting");
  assert.match(await page.text(".indicator .text"), /^Reconnecting in \d+ s$/);
  await gateway.start();
  await gateway.publish("a", 21, 30);
  await eventually(async () => (await page.state()) === "connected");
  await eventually(async () => (await page.count(".row")) === 30);

  assert.deepEqual(await rows(page), range(1, 30));
  assert.equal(await page.count("[data-gap]"), 0);
  await eventually(() => page.count('[data-notice="resumed"]'));
  assert.ok(await page.count('[data-notice="lost"]'));
  assert.ok(await page.count('[data-notice="restarted"]'));
});

test("a page that lost its connection says how many events it caught up", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  await gateway.hold("logs", 1, 2, { data: { level: "info", message: "m" } });
  const page = await show(t, gateway, "#/logs", new URL(relay.url).port);
  await eventually(async () => (await page.count(".row")) === 2);
  relay.refusing = true;
  relay.cut();
  await eventually(async () => (await page.state()) === "reconnecting");
  await gateway.hold("logs", 3, 9, { data: { level: "error", message: "m" } });
  relay.refusing = false;
  await eventually(async () => (await page.count(".row")) === 9);

  await eventually(async () => /7 events caught up/.test((await page.text('[data-notice="resumed"]')) ?? ""));
  assert.equal(await page.count(".level.error"), 7);
});

test("events that the gateway no longer holds are shown as a gap, with its count and reason", async (t) => {
  const gateway = await Gateway.start(t, { "history.events_max": 10 });
  const relay = await Relay.start(t, gateway);
  await gateway.hold("a", 1, 5);
  const page = await show(t, gateway, "#/channels/a", new URL(relay.url).port);
  await eventually(async () => (await page.count(".row")) === 5);
  relay.refusing = true;
  relay.cut();
  await eventually(async () => (await page.state()) === "reconnecting");
  await gateway.hold("a", 6, 40);
  relay.refusing = false;
  await eventually(async () => (await page.count(".row")) === 15);

  assert.deepEqual(await rows(page), [...range(1, 5), ...range(31, 40)]);
  assert.match(await page.text('[data-gap="evicted"]'), /^a: 25 events missing: no longer held/);
  await eventually(async () => /a: 25 events missing/.test((await page.text('[data-notice="gap"]')) ?? ""));
});

test("a loss on the bus is shown with its count, where it happened and in the overview", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  const page = await show(t, gateway, "#/channels/a");
  execFileSync(PYTHON, ["-c", LOSING, gateway.bus]);
  await eventually(async () => (await page.count(".row")) === 3);

  assert.deepEqual(await rows(page), [1, 2, 8]);
  assert.match(await page.text('[data-gap="bus_loss"]'), /^a: 5 events missing: lost between publisher and gateway$/);
  await page.go("#/overview");
  await eventually(async () => /5 messages were lost on the bus/.test((await page.text(".verdict")) ?? ""));
  assert.equal(await page.text('[data-card="card.lost"] .value'), "5");
  await page.go("#/publishers");
  await eventually(async () => /^a.{16}8500/.test((await page.text('[data-topic="a"]')) ?? ""));
});

test("an error in a filter is marked in place, and a valid filter filters", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("a", 1, 10);
  const page = await show(t, gateway, `#/channels/a?filter=${encodeURIComponent("data.n > > 3")}`);
  await eventually(() => page.count("mark"));

  assert.equal(await page.evaluate("document.querySelector('mark').dataset.at"), "9");
  assert.equal(await page.text("mark"), ">");
  assert.equal(await page.evaluate("document.querySelector('[name=filter]').getAttribute('aria-invalid')"), "true");
  await page.go(`#/channels/a?filter=${encodeURIComponent("data.n > 7")}`);
  await eventually(async () => (await page.count(".row")) === 3);
  assert.deepEqual(await rows(page), [8, 9, 10]);
  assert.equal(await page.count("mark"), 0);
});

test("a pause resumes at the same position", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("a", 1, 3);
  const page = await show(t, gateway, "#/channels/a");
  await eventually(async () => (await page.count(".row")) === 3);
  await page.evaluate("document.querySelector('[aria-pressed]').click()");
  await eventually(() => page.count('[aria-pressed="true"]'));
  await gateway.hold("a", 4, 8);
  assert.deepEqual(await rows(page), [1, 2, 3]);
  await page.evaluate("document.querySelector('[aria-pressed]').click()");
  await eventually(async () => (await page.count(".row")) === 8);

  assert.deepEqual(await rows(page), range(1, 8));
});

test("30,000 events do not make the page larger", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("a", 1, 2_000);
  const page = await show(t, gateway, "#/channels/a");
  await eventually(async () => (await page.count(".row")) === 200);
  await page.call("HeapProfiler.enable");
  const used = async () => {
    await page.call("HeapProfiler.collectGarbage");
    return (await page.call("Runtime.getHeapUsage")).usedSize;
  };
  const before = await used();
  for (let n = 2_001; n < 32_000; n += 2_000) await gateway.hold("a", n, n + 1_999);
  await eventually(async () => (await rows(page)).at(-1) === 32_000);

  await eventually(async () => (await page.count(".row")) === 200);
  assert.ok((await used()) < before + 6 * 2 ** 20, `${before} bytes before, ${await used()} after`);
});

test("the page asks for a token that the gateway requires, and keeps it in memory only", async (t) => {
  const gateway = await Gateway.start(t, { "auth.secret": SECRET });
  await gateway.publish("logs", 1, 3, { data: { level: "info", message: "m" } });
  const page = await show(t, gateway, "#/logs");
  await signIn(page, 3600);
  await eventually(async () => (await page.count(".row")) === 3);

  assert.equal(await page.count(".signin"), 0);
  assert.equal(await page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length"), 0);
  assert.doesNotMatch(await page.evaluate("location.href"), /ey/);
  await page.go("#/clients");
  await eventually(async () => /ada/.test((await page.text("tbody")) ?? ""));
});

test("a token that expires soon is announced, and a newer one continues without interruption", async (t) => {
  const gateway = await Gateway.start(t, { "auth.secret": SECRET, "auth.leeway_seconds": 0 });
  await gateway.publish("a", 1, 2);
  const page = await show(t, gateway, "#/channels/a");
  const expires = Date.now() + 15_000;
  await signIn(page, 15);
  await eventually(async () => (await page.state()) === "expiring");
  assert.match(await page.text(".indicator .text"), /^Token expires in \d+ s$/);
  await eventually(async () => (await page.count(".row")) === 2);
  await page.evaluate("document.querySelector('.indicator button').click()");
  await signIn(page, 3600);
  await eventually(() => Date.now() > expires + 1_000, "the first token has expired");
  await eventually(async () => (await page.state()) === "connected");
  await gateway.publish("a", 3, 4);
  await eventually(async () => (await page.count(".row")) === 4);

  assert.deepEqual(await rows(page), [1, 2, 3, 4]);
  assert.equal(await page.count("[data-gap]"), 0);
});

test("2,000 events per second are drawn a few times per second, and none is missing", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await show(t, gateway, "#/channels/a");
  await eventually(() => page.count(".rows"));
  const seen = await watch(page, ".row");
  for (let n = 1; n < 20_000; n += 500) {
    await gateway.publish("a", n, n + 499);
    await new Promise((resolve) => setTimeout(resolve, 250)); // 500 in a quarter of a second
  }
  await eventually(async () => (await rows(page)).at(-1) === 20_000);
  await eventually(async () => (await page.count(".row")) === 200);

  const { draws, rowsMost, longShare } = await seen();
  // The duration of tasks depends on the machine, and is only printed; the number of rows per drawing depends on the page.
  t.diagnostic(`${draws} drawings of at most ${rowsMost} rows, ${Math.round(longShare * 100)} % of the time in long tasks`);
  assert.ok(draws < 1_000, `${draws} drawings of 20,000 events`);
  assert.ok(rowsMost <= 100, `${rowsMost} rows at once`); // one screen of rows is removed, and one is added
  assert.equal(await page.evaluate("document.querySelector('[data-count]').dataset.count"), "20000");
  assert.equal(await page.count("[data-gap]"), 0);
});

test("axe finds no fault in any view, light or dark, wide or narrow", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 9, { data: { host: "alpha", cpu_percent: 12.5, memory_percent: 40 } });
  await gateway.hold("logs", 1, 4, { data: { level: "error", message: "m", service: "s" } });
  await gateway.hold("signals", 1, 2, { data: { event_id: 1, is_novel: true, priority: 7 }, event_type: "signal.text" });
  await gateway.hold("actions", 1, 2, { data: { action_id: 1, status: "completed", execution_time_ms: 3 } });
  const page = await show(t, gateway);
  await page.call("Page.setBypassCSP", { enabled: true });
  const views = [
    ["overview"], ["channels"], ["channels/logs"], ["channels/metrics", "tab=chart"], ["channels/metrics", "tab=values"],
    ["channels/metrics", "tab=about"], ["channels/metrics", "filter=("], ["logs"], ["signals"], ["actions"], ["publishers"],
    ["clients"], ["send"], ["about"],
  ];
  await page.evaluate(`${AXE}; undefined`);
  for (const [path, options = ""] of views) {
    for (const [theme, width] of [["light", 1280], ["dark", 360]]) {
      await page.call("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
      await page.go(`#/${path}?theme=${theme}&${options}`);
      await eventually(async () => (await page.evaluate("document.documentElement.dataset.theme")) === theme);
      await eventually(() => page.shows(`${path}?${options}`), `${path} ${options} is shown`);
      const found = await page.evaluate("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))");
      assert.deepEqual(found, [], `${path} ${options} ${theme}`);
      assert.ok(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), `${path} is wider than ${width}`);
    }
  }
});

test("axe finds no fault in opened rows and in the form for a token", async (t) => {
  const gateway = await Gateway.start(t, { "auth.secret": SECRET });
  await gateway.publish("logs", 1, 4, { data: { level: "error", message: "m", service: "s" } });
  await gateway.publish("logs", 5, 5, { data: { level: 7 } }); // it is rejected
  const page = await show(t, gateway);
  await page.call("Page.setBypassCSP", { enabled: true });
  await page.evaluate(`${AXE}; undefined`);
  const faults = async (what) => {
    for (const theme of ["light", "dark"]) {
      await page.evaluate(`document.documentElement.dataset.theme = "${theme}"`);
      const found = await page.evaluate("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))");
      assert.deepEqual(found, [], `${what} ${theme}`);
    }
  };
  await eventually(() => page.count(".signin"));
  await faults("the form for a token");
  await signIn(page, 600);
  const opened = { "channels/logs": ".row", publishers: ".row", overview: ".menu" };
  for (const [view, part] of Object.entries(opened)) {
    await page.go(`#/${view}`);
    await eventually(() => page.count(`${part} summary`));
    await page.evaluate(`document.querySelector("${part} summary").click()`);
    await eventually(() => page.count(`${part}[open]`));
    await faults(`${view} with ${part}`);
  }
  await page.go("#/send");
  await eventually(() => page.count("#channel-names option[value=logs]"));
  await page.evaluate(`(() => {
    const input = document.querySelector("[name=name]");
    input.value = "logs";
    input.dispatchEvent(new Event("input", { bubbles: true }));
  })()`);
  await eventually(() => page.count(".help"));
  await faults("the help of a schema");
});

test("the keyboard reaches all controls in every view, and the focus is visible", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 9, { data: { host: "alpha", cpu_percent: 12.5, memory_percent: 40 } });
  await gateway.hold("logs", 1, 2, { data: { level: "error", message: "m", service: "s" } });
  await gateway.publish("logs", 3, 3, { data: { level: 7 } }); // it is rejected
  await gateway.hold("signals", 1, 2, { data: { event_id: 1, is_novel: true, priority: 7 }, event_type: "signal.text" });
  await gateway.hold("actions", 1, 2, { data: { action_id: 1, status: "completed", execution_time_ms: 3 } });
  const page = await show(t, gateway);
  const usable = `[...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }))`;
  for (const view of ["overview", "channels", "channels/logs", "channels/metrics?tab=chart", "channels/metrics?tab=values", "channels/metrics?tab=about", "logs", "signals", "actions", "publishers", "clients", "send", "about"]) {
    await page.go(`#/${view}`);
    await eventually(() => page.shows(view), `${view} is shown`);
    await page.evaluate("document.activeElement.blur(); reached = new Set(); 1");
    for (let left = (await page.evaluate(`${usable}.length`)) + 10; left > 0; left -= 1) {
      await press(page, "Tab", TAB);
      const outline = await page.evaluate("reached.add(document.activeElement), document.activeElement === document.body ? '' : getComputedStyle(document.activeElement).outlineStyle");
      if (outline === "none") assert.fail(`${view}: ${await page.evaluate("document.activeElement.outerHTML.slice(0, 200)")} does not show the focus`);
    }
    const missed = await page.evaluate(`${usable}.filter((one) => !reached.has(one)).map((one) => one.outerHTML.slice(0, 120))`);
    assert.deepEqual(missed, [], view);
  }
});

test("the keyboard alone reaches a channel, opens an event and filters", async (t) => {
  const gateway = await Gateway.start(t);
  await gateway.hold("a", 1, 3);
  const page = await show(t, gateway);
  const focus = () => page.evaluate("document.activeElement.textContent.trim().slice(0, 60)");
  const tabTo = async (wanted) => {
    for (let n = 0; n < 60; n += 1) {
      await press(page, "Tab", TAB);
      if (await wanted()) return;
    }
    assert.fail(`the Tab key did not reach the element; the focus is on ${await focus()}`);
  };
  await tabTo(async () => (await focus()) === "Channels");
  await press(page, "Enter", ENTER);
  await eventually(() => page.count('[data-channel="a"]'));
  await tabTo(async () => (await focus()) === "a");
  await press(page, "Enter", ENTER);
  await eventually(async () => (await page.count(".row")) === 3);
  await tabTo(() => page.evaluate("document.activeElement.getAttribute('role') === 'tab'"));
  await press(page, "ArrowRight", { windowsVirtualKeyCode: 39 });
  await eventually(() => page.count("[data-series]"));
  await press(page, "ArrowLeft", { windowsVirtualKeyCode: 37 });
  await tabTo(() => page.evaluate("document.activeElement.name === 'filter'"));
  await page.call("Input.insertText", { text: "data.n == 2" });
  await press(page, "Enter", ENTER);
  await eventually(async () => (await page.count(".row")) === 1);
  await tabTo(() => page.evaluate("document.activeElement.matches('.row summary')"));
  await press(page, "Enter", ENTER);

  await eventually(() => page.count(".row .tree"));
  assert.match(await page.text(".row .tree"), /n: 2/);
});

test("the page works behind a proxy that adds a prefix, and sends no request to other servers", async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("a", 1, 3);
  const page = await open(t, "about:blank");
  const asked = [];
  await page.call("Page.navigate", { url: `http://127.0.0.1:${await prefixed(t, gateway, asked)}/some/where/#/channels/a` });
  await eventually(() => page.evaluate("document.querySelectorAll('.row').length === 3"));
  await page.evaluate("location.hash = '#/about'");
  await eventually(() => page.evaluate("document.querySelector('a[href=\"./openapi.json\"]') !== null"));

  const origins = "[...new Set(performance.getEntriesByType('resource').map(({ name }) => new URL(name).origin))]";
  assert.deepEqual(await page.evaluate(origins), [await page.evaluate("location.origin")]);
  assert.deepEqual(asked.filter((path) => !path.startsWith("/some/where/")), []);
  assert.ok(asked.includes("/some/where/ws"));
});

test("two elements show a channel in any page, with one script from the gateway", async (t) => {
  const gateway = await Gateway.start(t);
  const relay = await Relay.start(t, gateway);
  await gateway.hold("metrics", 1, 3, { data: { host: "alpha", cpu_percent: 5 } });
  const page = await open(t, await serve(t)); // another origin
  const source = `http://127.0.0.1:${new URL(relay.url).port}/embed.js`;
  await eventually(() => page.evaluate("location.protocol === 'http:' && document.readyState === 'complete'"));
  await page.evaluate(`new Promise((loaded) => {
    document.body.innerHTML = '<neurograph-tail channel="metrics"></neurograph-tail><neurograph-chart channel="metrics"></neurograph-chart>';
    const script = document.createElement("script");
    script.src = ${JSON.stringify(source)};
    script.onload = loaded;
    document.head.append(script);
  })`);
  const lines = () => page.evaluate("document.querySelector('neurograph-tail').shadowRoot.querySelectorAll('p').length");
  await eventually(async () => (await lines()) === 3);
  await eventually(() => page.evaluate("document.querySelector('neurograph-chart').shadowRoot.querySelector('canvas') !== null"));
  relay.cut();
  await gateway.hold("metrics", 4, 6, { data: { host: "alpha", cpu_percent: 7 } });
  await eventually(async () => (await lines()) === 6);
  assert.match(await page.evaluate("document.querySelector('neurograph-chart').shadowRoot.textContent"), /cpu_percent alpha/);
  await page.evaluate("document.body.replaceChildren()");
  await eventually(async () => (await gateway.clients()).length === 0, "disconnected");
});

test("the page can be shown in Russian, and its URL keeps the language", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await show(t, gateway, "#/overview?lang=ru&theme=dark");

  assert.equal(await page.text("h1"), "Обзор");
  assert.equal(await page.evaluate("document.documentElement.lang"), "ru");
  assert.equal(await page.text(".indicator .text"), "На связи");
  assert.match(await page.evaluate("document.querySelector('nav a:nth-child(3)').href"), /#\/logs\?lang=ru&theme=dark$/);
});

test("an event sent from the page arrives, and a refused one shows the reason", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await show(t, gateway, "#/send");
  const send = async (name, data) => {
    await page.evaluate(`for (const [name, value] of [["name", ${JSON.stringify(name)}], ["data", ${JSON.stringify(data)}]]) {
      const field = document.querySelector(\`[name=\${name}]\`);
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }`);
    await page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))");
    await page.evaluate("document.querySelector('form').requestSubmit()");
  };
  await send("logs", '{"level": 3}');
  await eventually(async () => /level/.test((await page.text("form .error")) ?? ""));
  await send("b", '{"n": 7}');
  await eventually(async () => /^Published at \w+:1; 0 clients get it/.test((await page.text("form [role=status]")) ?? ""));
  await page.evaluate("document.querySelector('form [role=status] a').click()"); // to the channel
  await eventually(async () => (await page.count(".row")) === 1);
  assert.deepEqual(await rows(page), [7]);
});

test("the form for sending lists the fields of a channel's schema, and fills them in", async (t) => {
  const gateway = await Gateway.start(t);
  const page = await show(t, gateway, "#/send");
  await eventually(() => page.count('#channel-names [value="logs"]'));
  await page.evaluate("document.querySelector('[name=name]').focus()");
  await page.call("Input.insertText", { text: "logs" });
  await eventually(() => page.count(".help button"));
  assert.match(await page.text(".help"), /level\*: string, message\*: string, service: string,/);
  await page.evaluate("document.querySelector('.help button').click()");

  const data = async () => JSON.parse(await page.evaluate("document.querySelector('[name=data]').value"));
  await eventually(async () => "level" in (await data()));
  assert.deepEqual(await data(), { level: "", message: "", service: null, correlation_id: null });
});

/** Starts a proxy that serves the gateway below a prefix; returns its port. */
async function prefixed(t, gateway, asked) {
  const prefix = "/some/where";
  const onward = ({ method, url, headers }) => {
    asked.push(url.replace(/\?.*/, ""));
    return http.request({ port: gateway.port, path: url.slice(prefix.length), method, headers });
  };
  const server = http.createServer((request, answer) => {
    request.pipe(
      onward(request).on("response", (found) => {
        answer.writeHead(found.statusCode, found.headers);
        found.pipe(answer);
      }),
    );
  });
  server.on("upgrade", (request, socket) => {
    onward(request)
      .on("upgrade", (found, other) => {
        const lines = Object.entries(found.headers).map(([name, value]) => `${name}: ${value}\r\n`);
        socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`);
        other.pipe(socket).pipe(other);
        for (const one of [socket, other]) one.on("error", () => {});
      })
      .end();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  t.after(() => (server.closeAllConnections(), server.close()));
  return server.address().port;
}
