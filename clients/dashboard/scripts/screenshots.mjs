// Take docs/dashboard-*.png of `make run`. Usage: node scripts/screenshots.mjs [address of a running gateway]
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { open } from "../../typescript/test/support/browser.mjs";
import { eventually, PYTHON, ROOT } from "../../typescript/test/support/gateway.mjs";

const PORT = 8765;
const FOLDER = process.env.SCREENSHOTS ?? fileURLToPath(new URL("../../../docs/", import.meta.url));
const WIDE = { width: 1280, height: 860, deviceScaleFactor: 1, mobile: false };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, mobile: true };
/** The time to wait for enough of the gateway's own figures, which come every 5 s, to draw lines. */
const SECONDS = Number(process.env.SECONDS ?? 60);
const SHOTS = [
  ["overview", "#/overview", WIDE],
  ["chart", "#/channels/metrics?tab=chart&fields=cpu_percent,memory_percent", WIDE],
  ["logs", "#/logs", WIDE],
  ["phone", "#/overview", PHONE],
  ...(process.env.ALL
    ? [
        ["channels", "#/channels", WIDE],
        ["tail", "#/channels/signals?filter=data.priority%20%3E%20", WIDE],
        ["values", "#/channels/metrics?tab=values", WIDE],
        ["signals", "#/signals", WIDE],
        ["actions", "#/actions?lang=ru", WIDE],
        ["publishers", "#/publishers", WIDE],
        ["clients", "#/clients", WIDE],
        ["send", "#/send", WIDE],
        ["about", "#/about", WIDE],
        ["phone-logs", "#/logs", PHONE],
        ["phone-chart", "#/channels/metrics?tab=chart&lang=ru", PHONE],
      ]
    : []),
];

const endings = [];
const t = { after: (act) => endings.unshift(act) };
try {
  const address = process.argv[2] ?? (await start());
  const page = await open(t, address);
  mkdirSync(FOLDER, { recursive: true });
  for (const [name, hash, size] of SHOTS) {
    for (const theme of ["light", "dark"]) {
      await page.call("Emulation.setDeviceMetricsOverride", size);
      await page.call("Emulation.setScrollbarsHidden", { hidden: true });
      await page.call("Page.navigate", { url: "about:blank" });
      await page.call("Page.navigate", { url: `${address}${hash}${hash.includes("?") ? "&" : "?"}theme=${theme}` });
      await eventually(() => page.evaluate("document.querySelector('h1') !== null"));
      await new Promise((resolve) => setTimeout(resolve, 2_500)); // for live events to arrive
      const { data } = await page.call("Page.captureScreenshot", { format: "png", optimizeForSpeed: false });
      writeFileSync(`${FOLDER}/dashboard-${name}-${theme}.png`, Buffer.from(data, "base64"));
      console.log(`dashboard-${name}-${theme}.png`);
    }
  }
} finally {
  for (const end of endings) await end();
}

/** Starts what `make run` starts, and waits until there are figures to show. */
async function start() {
  const run = spawn(PYTHON, ["ops/run.py", "--port", String(PORT)], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => new Promise((resolve) => (run.once("exit", resolve), run.kill("SIGINT"))));
  const address = `http://127.0.0.1:${PORT}/`;
  await eventually(async () => (await fetch(`${address}readyz`).catch(() => null))?.ok, "the gateway is ready");
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
  return address;
}
