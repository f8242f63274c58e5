// Headless Chromium, controlled over its DevTools protocol, and an HTTP server for the built package.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { eventually, PACKAGE } from "./gateway.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "chromium";
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
];

/** Serves the package's files, further `scripts` by path, and an empty page at `/`. */
export async function serve(t, scripts = {}) {
  const server = createServer(({ url }, answer) => {
    const script = scripts[url] ?? (/^\/dist\/[\w-]+\.js$/.test(url) && readFileSync(join(PACKAGE, url)));
    answer.setHeader("Content-Type", script ? "text/javascript" : "text/html; charset=utf-8");
    answer.end(script || "<!doctype html><title>test</title>");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

/** Opens a page; returns `evaluate(expression)`, which runs code in it, and `call(method, parameters)`. */
export async function open(t, address) {
  const folder = mkdtempSync(join(tmpdir(), "ng-chromium-"));
  const browser = spawn(CHROMIUM, [...FLAGS, `--user-data-dir=${folder}`], { stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(browser, "exit");
  await once(browser, "spawn");
  const devtools = await endpoint(browser);
  const socket = new WebSocket(devtools);
  t.after(async () => {
    socket.send(JSON.stringify({ id: 0, method: "Browser.close" }));
    await exited;
    rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  });
  await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
  const waiting = new Map();
  socket.addEventListener("message", ({ data }) => {
    const { id, result, error } = JSON.parse(data);
    waiting.get(id)?.(error ? { error } : result);
    waiting.delete(id);
  });
  let sessionId;
  let id = 0;
  const call = async (method, params = {}) => {
    id += 1;
    const answer = new Promise((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params, sessionId }));
    const result = await answer;
    assert.equal(result.error, undefined, `${method}: ${JSON.stringify(result.error)}`);
    return result;
  };
  const { targetId } = await call("Target.createTarget", { url: address });
  sessionId = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  const evaluate = async (expression) => {
    const found = await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    assert.equal(found.exceptionDetails, undefined, JSON.stringify(found.exceptionDetails));
    return found.result.value;
  };
  return { evaluate, call };
}

/** Opens a page of an HTTP server, and waits until it is loaded. */
export async function openReady(t, address) {
  const page = await open(t, address);
  await eventually(() => page.evaluate("location.protocol === 'http:' && document.readyState === 'complete'"));
  return page;
}

async function endpoint(browser) {
  for await (const line of createInterface(browser.stderr)) {
    const found = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
    if (found) {
      browser.stderr.resume();
      return found;
    }
  }
  throw new Error("Chromium did not start");
}
