// Requests from a page, a Python program and a shell, to processes on the bus, through a gateway that is killed and started again.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { openReady, serve } from "./support/browser.mjs";
import { eventually, Gateway, PYTHON, ROOT } from "./support/gateway.mjs";

const CORES = ["plain", "library"];
const script = (name) => fileURLToPath(new URL(`support/${name}.py`, import.meta.url));

/** Runs a Python script until the test ends; returns the JSON lines that it has printed so far. */
function lines(t, name, ...given) {
  const found = [];
  const child = spawn(PYTHON, [script(name), ...given], { stdio: ["pipe", "pipe", "inherit"], cwd: ROOT });
  t.after(() => child.kill("SIGKILL"));
  createInterface(child.stdout).on("line", (line) => found.push(JSON.parse(line)));
  return { found, child };
}

/** Sends requests in a page, one after the other, until `stop`; `found` has the result of each. */
async function inPage(t, url) {
  const page = await openReady(t, await serve(t));
  await page.evaluate(`(async () => {
    const { Client } = await import("/dist/index.js");
    window.client = new Client(${JSON.stringify(url)});
    window.found = [];
    await client.connect();
    window.running = (async () => {
      for (let n = 0; !window.stopped; n += 1) {
        const core = ${JSON.stringify(CORES)}[n % 2];
        const told = { from: "page", n, core };
        try {
          told.double = (await client.request("core." + core, { from: "page", n }, { timeoutMs: 10_000 })).data.double;
        } catch (error) {
          told.reason = error.message;
        }
        found.push(told);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
  })()`);
  const stop = () => page.evaluate("window.stopped = true, running.then(() => found)");
  return { found: () => page.evaluate("found"), stop };
}

/** Sends one request with the command `gateway request`. */
function inShell(url, core, n) {
  const data = JSON.stringify({ from: "shell", n });
  const given = ["-m", "gateway", "request", `core.${core}`, data, "--url", url, "--wait", "10", "--json"];
  return new Promise((resolve) =>
    execFile(PYTHON, given, { cwd: ROOT }, (error, output, errors) =>
      resolve({ from: "shell", n, core, ...(error ? { reason: errors } : { double: JSON.parse(output).data.double }) })));
}

/** This test takes 20 s, most of it for starting commands. */
const skip = process.env.TEST_FULL !== "1" && "runs only with TEST_FULL=1";

test("each request is answered once, or fails with a reason, though the gateway is killed", { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "ng-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const gateway = await Gateway.start(t, { "bus.publish": `ipc://${folder}/out`, "bus.publish_channels": "core.>" });
  const url = `http://127.0.0.1:${gateway.port}`;
  const cores = Object.fromEntries(CORES.map((core) => [core, lines(t, "cores", core, gateway.bus, `ipc://${folder}/out`).found]));
  const python = lines(t, "requests", url);
  const page = await inPage(t, gateway.url);
  const shell = [];
  const answered = (all) => CORES.every((core) => all.some((one) => one.core === core && one.double !== undefined));
  for (let round = 0; round < 3; round += 1) {
    const [atPage, atPython] = [(await page.found()).length, python.found.length];
    await eventually(async () => answered(python.found.slice(atPython)) && answered((await page.found()).slice(atPage)), "both are answered");
    const asking = CORES.map((core, n) => inShell(url, core, 2 * round + n));
    if (round < 2) {
      // Requests are under way: the shell's have begun, and the others never pause.
      await gateway.end("SIGKILL");
      await gateway.start();
    }
    shell.push(...(await Promise.all(asking)));
  }
  python.child.stdin.end();
  const all = [...(await page.stop()), ...shell];
  await eventually(() => python.child.exitCode !== null, "the Python program ends");
  all.push(...python.found);

  const received = CORES.flatMap((core) => cores[core].map(({ from, n }) => `${core} ${from} ${n}`));
  assert.equal(new Set(received).size, received.length, "a process received a request twice");
  for (const { from, n, core, double, reason } of all) {
    if (double === undefined) assert.ok(reason?.length > 10, `request ${n} of ${from} failed without a reason: ${reason}`);
    else assert.deepEqual([double, received.includes(`${core} ${from} ${n}`)], [2 * n, true]);
  }
  assert.equal(new Set(all.map(({ from, n }) => `${from} ${n}`)).size, all.length);
  assert.ok(answered(shell.slice(-2)), JSON.stringify(shell));
  const failed = all.filter(({ double }) => double === undefined);
  t.diagnostic(`${all.length} requests: ${all.length - failed.length} answered, ${failed.length} failed`);
  for (const reason of new Set(failed.map(({ from, reason }) => `${from}: ${reason.trim().split("\n").at(-1)}`))) t.diagnostic(reason);
});
