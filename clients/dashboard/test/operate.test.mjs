// The views of publishers and clients, and what an operator can do there.
import assert from "node:assert/strict";
import { test } from "node:test";

import { eventually, Gateway, sendFrames } from "../../typescript/test/support/gateway.mjs";
import { SECRET, show, signIn } from "./support/page.mjs";

/** Clicks a client's button: the first click asks for confirmation, the second disconnects. */
const click = (page, id) => page.evaluate(`document.querySelector('[data-client="${id}"] button').click()`);
const button = (page, id) => page.evaluate(`document.querySelector('[data-client="${id}"] button')?.firstChild.textContent ?? null`);

/** Connects a client, and collects all messages that it gets. */
async function connect(t, gateway) {
  const socket = new WebSocket(`${gateway.url}?channels=metrics`);
  t.after(() => socket.close());
  const messages = [];
  socket.addEventListener("message", ({ data }) => messages.push(JSON.parse(data)));
  await eventually(() => messages.length);
  return { id: messages[0].client_id, messages };
}

test("a client is disconnected at the second click, and does not reconnect", async (t) => {
  const gateway = await Gateway.start(t);
  const client = await connect(t, gateway);
  const page = await show(t, gateway, "#/clients");
  await eventually(() => page.count(`[data-client="${client.id}"]`));
  await eventually(async () => (await page.count("tr[data-client]")) === 2);
  assert.equal(await page.count("tr[data-client] button"), 1, "there is no button for the page's own connection");
  assert.equal(await button(page, client.id), "Disconnect");
  await click(page, client.id);
  await eventually(async () => (await button(page, client.id)) === "Really disconnect?");
  assert.equal((await gateway.clients()).length, 2);
  await click(page, client.id);

  await eventually(() => client.messages.at(-1).type === "closing");
  assert.equal(client.messages.at(-1).code, 4504);
  await eventually(async () => (await page.count("tr[data-client]")) === 1);
  assert.equal(await page.state(), "connected");
});

test("a role that may only read the gateway's state cannot disconnect clients, and gets the reason", async (t) => {
  const gateway = await Gateway.start(t, { "auth.secret": SECRET });
  const client = await connect(t, gateway);
  const page = await show(t, gateway, "#/clients");
  await signIn(page, 3600, ["monitor"]);
  await eventually(() => page.count(`[data-client="${client.id}"] button`));
  await click(page, client.id);
  await eventually(async () => (await button(page, client.id)) === "Really disconnect?");
  await click(page, client.id);

  await eventually(async () => /none of your roles/.test((await page.text(`[data-client="${client.id}"] .error`)) ?? ""));
});

test("a rejection shows its frames in hexadecimal, and what to do", async (t) => {
  const gateway = await Gateway.start(t);
  await sendFrames(gateway.bus, "a/b", Uint8Array.of(0, 1, 254, 65));
  const page = await show(t, gateway, "#/publishers");
  await eventually(() => page.count(".row"));
  await page.evaluate("document.querySelector('.row summary').click()");
  await eventually(() => page.count("[data-frame]"));

  assert.equal((await page.text('[data-frame="0"]')).trim(), "0000  61 2f 62                                         a/b");
  assert.match(await page.text('[data-frame="1"]'), /00 01 fe 41 +···A/);
  assert.match(await page.text(".row dl"), /use letters, digits/);
  assert.match(await page.text(".row dl"), /ipc:/);
  assert.match(await page.text(".advice"), /1 × bad_topic/);
});

test("a publisher with a wrong clock is marked", async (t) => {
  const gateway = await Gateway.start(t);
  const incarnation = Buffer.from("0000000000000007", "hex");
  const sent = Buffer.alloc(8);
  sent.writeBigUInt64BE(BigInt(Date.now() + 90_000) * 1_000_000n);
  const envelope = Buffer.concat([Buffer.from("NGE1"), Buffer.alloc(4), incarnation, Buffer.from("0000000000000001", "hex"), sent]);
  await gateway.hold("b", 1, 1);
  await sendFrames(gateway.bus, "$heartbeat", JSON.stringify({ incarnation: incarnation.toString("hex"), interval: 60, name: "late" }));
  await sendFrames(gateway.bus, "a", "1", envelope);
  const page = await show(t, gateway, "#/publishers");

  await eventually(async () => /late.*1\.5 min ahead/.test((await page.text("tbody")) ?? ""));
  assert.match(await page.text("tbody"), /± [\d.]+ ms/);
});
