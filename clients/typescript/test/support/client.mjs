import { Client } from "../../dist/index.js";

/** Returns a connected client that reconnects soon after each loss; it ends with the test. */
export async function connected(t, url) {
  const client = new Client(url, { backoffMs: [1, 5] });
  client.on("error", () => {});
  t.after(() => client.disconnect());
  await client.connect();
  return client;
}
