// A dashboard with 100 panels in Chromium, with the hook of the README, in React's StrictMode.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "esbuild";

import { open, serve } from "./support/browser.mjs";
import { eventually, Gateway, PACKAGE } from "./support/gateway.mjs";
import { LACKING, Nginx } from "./support/nginx.mjs";

const COUNT = Number(process.env.PANELS ?? 100);
const FILTER = "data.n > 7";
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const namesOf = (count) => range(0, count - 1).map((at) => `panel.n${at}`);

/** Builds the page's script with the hook from the README. */
async function bundle() {
  const blocks = readFileSync(join(PACKAGE, "README.md"), "utf8").matchAll(/```tsx\n(.*?)```/gs);
  const [hook] = [...blocks].map(([, code]) => code).filter((code) => code.includes("export function useNeurograph"));
  const readme = {
    name: "readme",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^hook$/ }, () => ({ path: "hook", namespace: "readme" }));
      onLoad({ filter: /./, namespace: "readme" }, () => ({ contents: hook, loader: "tsx", resolveDir: PACKAGE }));
    },
  };
  const { outputFiles } = await build({
    entryPoints: [join(PACKAGE, "test/support/board.tsx")],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    tsconfigRaw: {},
    alias: { "neurograph-client": join(PACKAGE, "dist/index.js") },
    define: { "process.env.NODE_ENV": '"development"' }, // StrictMode mounts everything twice
    plugins: [readme],
  });
  return outputFiles[0].text;
}

/** Opens the page of a dashboard; the result reads what its panels show. */
async function dashboard(t) {
  const page = await open(t, await serve(t, { "/board.js": await bundle() }));
  await eventually(() => page.evaluate("location.protocol === 'http:' && document.readyState === 'complete'"));
  await page.evaluate("import('/board.js').then(() => {})");
  return {
    /** Mounts its panels; returns the milliseconds until all were confirmed. */
    open: ({ url }, shown) => page.evaluate(`board.open(${JSON.stringify(url)}, ${JSON.stringify(shown)})`),
    show: (shown) => page.evaluate(`board.show(${JSON.stringify(shown)})`),
    found: () => page.evaluate("board.found"),
    errors: () => page.evaluate("board.errors"),
    /** Waits until it is subscribed to exactly the first `count` channels. */
    async following(count) {
      const wanted = JSON.stringify(namesOf(count).sort());
      await eventually(() => page.evaluate(`board.client.subscriptions().then((all) => JSON.stringify(all.sort()), () => "")`)
        .then((found) => found === wanted), `exactly ${count} panels are subscribed`);
    },
    received: (count, numbers) => eventually(
      () => page.evaluate(`Array.from({ length: ${count} }, (_, at) => board.found["panel.n" + at] ?? [])
        .every((found) => found.length >= ${numbers.length})`), `${numbers.length} events for each of ${count}`),
  };
}

/** Starts a gateway for the panels; returns it with a function that publishes to all of them. */
async function publishing(t) {
  const gateway = await Gateway.start(t, { "clients.subscriptions_max": COUNT + 28 });
  const publish = (from, to) => Promise.all(namesOf(COUNT).map((name) => gateway.publish(name, from, to, { replay: 100_000 })));
  return { gateway, publish };
}

/** Returns how long something takes, in milliseconds. */
async function timed(act) {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

test("panels mount, change filters, unmount and survive a restart, each event once", async (t) => {
  const { gateway, publish } = await publishing(t);
  const board = await dashboard(t);
  const times = {};

  times.mounted = await board.open(gateway, { count: COUNT });
  await publish(1, 5);
  await board.received(COUNT, range(1, 5));
  times.filtered = await board.show({ count: COUNT, filter: FILTER });
  await publish(6, 10);
  await board.received(COUNT, [...range(1, 5), ...range(8, 10)]);
  await board.show({ count: COUNT / 2, filter: FILTER });
  await board.following(COUNT / 2);

  await gateway.end();
  await publish(11, 15);
  await gateway.start();
  times.restarted = await timed(() => board.following(COUNT / 2));
  await publish(16, 20);
  const wanted = [...range(1, 5), ...range(8, 20)];
  await board.received(COUNT / 2, wanted);
  await board.following(COUNT / 2);

  const found = await board.found();
  namesOf(COUNT).forEach((name, at) => {
    assert.deepEqual(found[name], at < COUNT / 2 ? wanted : wanted.slice(0, 8), name);
  });
  assert.deepEqual(await board.errors(), []);
  t.diagnostic(`${COUNT} panels, ms until confirmed: ${JSON.stringify(times)}`);
});

test("panels behind nginx survive its restart, each event once", { skip: LACKING }, async (t) => {
  const { gateway, publish } = await publishing(t);
  const nginx = await Nginx.start(t, gateway);
  const board = await dashboard(t);
  const times = { mounted: await board.open(nginx, { count: COUNT }) };
  await publish(1, 5);
  await board.received(COUNT, range(1, 5));

  await nginx.end();
  await publish(6, 10);
  await nginx.start();
  times.restarted = await timed(() => board.following(COUNT));
  await publish(11, 15);
  await board.received(COUNT, range(1, 15));

  const found = await board.found();
  for (const name of namesOf(COUNT)) assert.deepEqual(found[name], range(1, 15), name);
  assert.deepEqual(await board.errors(), []);
  t.diagnostic(`${COUNT} panels, ms until confirmed: ${JSON.stringify(times)}`);
});
