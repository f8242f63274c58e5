// Headless Firefox, controlled over WebDriver BiDi.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const FIREFOX = process.env.FIREFOX || "firefox-esr";

/** Opens a page; returns a function that evaluates an expression in it. */
export async function openInFirefox(t, address) {
  const folder = mkdtempSync(join(tmpdir(), "ng-firefox-"));
  const flags = ["--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"];
  const browser = spawn(FIREFOX, flags, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: folder } });
  const exited = once(browser, "exit");
  const socket = new WebSocket(`${await endpoint(browser)}/session`);
  t.after(async () => {
    browser.kill("SIGKILL");
    await exited;
    rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  });
  await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
  const waiting = new Map();
  socket.addEventListener("message", ({ data }) => {
    const { id, ...answer } = JSON.parse(data);
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  let id = 0;
  const call = async (method, params = {}) => {
    id += 1;
    const answer = new Promise((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    const { error, message, result } = await answer;
    assert.equal(error, undefined, `${method}: ${message}`);
    return result;
  };
  await call("session.new", { capabilities: {} });
  const { context } = (await call("browsingContext.getTree")).contexts[0];
  await call("browsingContext.navigate", { context, url: address, wait: "complete" });
  return async (expression) => {
    const found = await call("script.evaluate", { expression: `JSON.stringify(${expression})`, target: { context }, awaitPromise: true });
    assert.equal(found.type, "success", JSON.stringify(found.exceptionDetails));
    return found.result.type === "undefined" ? undefined : JSON.parse(found.result.value);
  };
}

async function endpoint(browser) {
  await once(browser, "spawn");
  for await (const line of createInterface(browser.stderr)) {
    const found = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1];
    if (found) {
      browser.stderr.resume();
      return found;
    }
  }
  throw new Error("Firefox did not start");
}
