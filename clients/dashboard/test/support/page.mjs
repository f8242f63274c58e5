// The gateway's page in a headless Chromium, and a user's actions.
import { createHmac } from "node:crypto";

import { open } from "../../../typescript/test/support/browser.mjs";
import { eventually } from "../../../typescript/test/support/gateway.mjs";

export const SECRET = "a secret of at least thirty-two bytes";

/** Opens the gateway's page at a view; the result has functions that read and control it. */
export async function show(t, gateway, hash = "#/overview", port = gateway.port) {
  const page = await open(t, `http://127.0.0.1:${port}/${hash}`);
  await page.call("Runtime.enable");
  const text = (selector) => page.evaluate(`document.querySelector(${JSON.stringify(selector)})?.textContent ?? null`);
  const count = (selector) => page.evaluate(`document.querySelectorAll(${JSON.stringify(selector)}).length`);
  const state = () => page.evaluate("document.querySelector('.indicator')?.dataset.state");
  const go = (place) => page.evaluate(`location.hash = ${JSON.stringify(place)}`);
  const shows = (view) => page.evaluate(`document.querySelector(${JSON.stringify(contentsOf(view))}) !== null`);
  await eventually(async () => (await state()) === "connected", "the page is connected");
  return { ...page, text, count, state, go, shows };
}

/** A selector of a view's contents: not of the previous view, nor of a channel's filter, which appears before its events. */
function contentsOf(view) {
  const [path, options = ""] = view.split("?");
  const [name, channel] = path.split("/");
  const tab = new URLSearchParams(options).get("tab") ?? "tail";
  const main = `nav:has([aria-current][href^="#/${name}"]) ~ main`;
  const place = channel === undefined ? main : `${main} [aria-labelledby=tab-${tab}]`;
  return ["table", "[role=table]", ".row", "form", "dl"].map((one) => `${place} ${one}`).concat(`${main} #filter-error`).join(", ");
}

/** Returns the numbers `n` of the rows that are shown, the oldest first. */
export const rows = (page) =>
  page.evaluate("[...document.querySelectorAll('.row .data')].map((one) => JSON.parse(one.textContent).n).reverse()");

/** Enters a token that is valid for `seconds` into the form, and submits it. */
export async function signIn(page, seconds, roles = ["admin"]) {
  await eventually(() => page.count(".signin"));
  const typed = token({ sub: "ada", roles, exp: Math.round(Date.now() / 1000) + seconds });
  await page.evaluate(`(() => {
    const input = document.querySelector("[name=token]");
    input.value = ${JSON.stringify(typed)};
    input.dispatchEvent(new Event("input", { bubbles: true }));
  })()`);
  await page.evaluate("document.querySelector('.signin').requestSubmit()");
}

/** Observes the most rows that one drawing changes, and the share of time in long tasks, which delay keys and clicks. */
export async function watch(page, row) {
  await page.evaluate(`(() => {
    const seen = (window.seen = { began: performance.now(), long: 0, rowsMost: 0, draws: 0 });
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (seen.long += duration))).observe({ type: "longtask" });
    const rowOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest(${JSON.stringify(row)});
    new MutationObserver((changes) => {
      const rows = new Set(changes.flatMap(({ target, addedNodes }) => [target, ...addedNodes].map(rowOf)).filter(Boolean));
      seen.draws += 1;
      seen.rowsMost = Math.max(seen.rowsMost, rows.size);
    }).observe(document.querySelector("main"), { childList: true, characterData: true, subtree: true });
  })()`);
  return () => page.evaluate("({ ...seen, longShare: seen.long / (performance.now() - seen.began) })");
}

export async function press(page, key, more = {}) {
  for (const type of ["keyDown", "keyUp"]) {
    const text = type === "keyDown" && key.length === 1 ? { text: key } : {};
    await page.call("Input.dispatchKeyEvent", { type, key, code: key, ...text, ...more });
  }
}
export const TAB = { windowsVirtualKeyCode: 9 };
export const ENTER = { windowsVirtualKeyCode: 13, text: "\r" };

function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
