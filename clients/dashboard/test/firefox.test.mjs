// The page in a real Firefox.
import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually, Gateway } from "../../typescript/test/support/gateway.mjs";
import { openInFirefox } from "./support/firefox.mjs";

// ops/dashboard.sh sets FIREFOX, and fails in CI without a Firefox.
const skip = process.env.FIREFOX === "" ? "no Firefox" : false;

test("Firefox shows published events, live and as a chart", { skip }, async (t) => {
  const gateway = await Gateway.start(t, { figures_seconds: 0.5 });
  await gateway.hold("metrics", 1, 3, { data: { host: "alpha", cpu_percent: 12.5, memory_percent: 40, load_1m: 0.75 } });
  const evaluate = await openInFirefox(t, `http://127.0.0.1:${gateway.port}/#/overview?lang=en`);
  const text = (selector) => evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent ?? null`);
  await eventually(async () => (await text(".indicator .text")) === "Connected");
  await eventually(() => text('[data-host="alpha"]'));
  assert.match(await text('[data-host="alpha"]'), /^alpha12\.5 %40 %0\.75$/);

  await evaluate("(location.hash = '#/channels/metrics?lang=en', null)");
  const rows = "[...document.querySelectorAll('.row .data')].map((one) => JSON.parse(one.textContent).n).reverse()";
  await eventually(async () => (await evaluate(rows)).length === 3);
  await gateway.publish("metrics", 4, 6, { data: { host: "beta" } });
  await eventually(async () => (await evaluate(rows)).length === 6);
  assert.deepEqual(await evaluate(rows), [1, 2, 3, 4, 5, 6]);

  await evaluate("(location.hash = '#/channels/metrics?lang=en&tab=chart&fields=n', null)");
  const points = "[...document.querySelectorAll('[data-series]')].map(({ dataset }) => [dataset.series, dataset.points])";
  await eventually(async () => (await evaluate(points)).length === 2);
  assert.deepEqual(await evaluate(points), [["n · alpha", "3"], ["n · beta", "3"]]);
  assert.ok(await evaluate("document.querySelector('.chart canvas').width > 100"));
});
