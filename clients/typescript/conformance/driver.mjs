// Runs the commands of clients/conformance/runner.py, and reports what an application sees: see the README there.
import { createInterface } from "node:readline";

import { Client, ClosedError, RequestRefusedError, msgpack } from "../dist/index.js";

const subscriptions = new Map();
let client;

function tell(saw, fields = {}) {
  process.stdout.write(`${JSON.stringify({ saw, ...fields })}\n`);
}

/** A subscription with the name that a case gives it; items are read unless it is paused. */
class Follower {
  constructor(name, channels, options) {
    this.name = name;
    this.going = Promise.resolve();
    this.subscription = client.subscribe(channels, { ...options, gaps: true });
    this.subscription.confirmed.then(
      () => tell("subscribed", { name }),
      (error) => error instanceof RequestRefusedError && tell("error", { name, code: error.code }),
    );
    this.take().catch((error) => error instanceof RequestRefusedError && tell("error", { name, code: error.code }));
  }

  async take() {
    for await (const item of this.subscription) {
      await this.going;
      const { type, channel, epoch } = item;
      const { offset, from, to, count, reason } = item;
      const fields = type === "gap" ? { from, to, count, reason } : { offset, number: (item.data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(item.data)) : item.data).n };
      tell(type, { name: this.name, channel, epoch, ...fields });
    }
  }

  pause() {
    this.going = new Promise((resolve) => (this.goOn = resolve));
  }
}

async function connected() {
  while (client.state !== "connected") await new Promise((resolve) => client.on("connected", resolve));
}

const commands = {
  connect({ url, backoff_ms, buffer, tokens, encoding }) {
    const token = tokens && (() => (tokens.length > 1 ? tokens.shift() : tokens[0]));
    client = new Client(url, { backoffMs: backoff_ms, buffer, ...(token && { token }), ...(encoding === "msgpack" && { encoding: msgpack }) });
    client.on("state", (state) => tell("state", { state }));
    client.on("error", (error) => {
      if (error instanceof ClosedError) tell("error", { code: error.reason });
      else if (!(error instanceof RequestRefusedError)) throw error;
    });
    client.connect().catch(() => {}); // reported by the event `error`
  },
  subscribe({ name, channels, last, rate, filter }) {
    const given = Object.entries({ last, rate, filter }).filter(([, value]) => value !== undefined);
    subscriptions.set(name, new Follower(name, channels, Object.fromEntries(given)));
  },
  unsubscribe: ({ name }) => subscriptions.get(name).subscription.close(),
  pause: ({ name }) => subscriptions.get(name).pause(),
  go_on: ({ name }) => subscriptions.get(name).goOn(),
  async ping() {
    await connected();
    tell("pong", { rtt_ms: await client.ping() });
  },
  async subscriptions() {
    await connected();
    tell("subscriptions", { channels: await client.subscriptions() });
  },
  close() {
    client.disconnect();
    tell("closed");
    process.exit(0); // Node's WebSocket keeps a dead connection, and so the process, until TCP times out
  },
};

const input = createInterface(process.stdin);
input.on("line", async (line) => {
  const command = JSON.parse(line);
  if (!(command.do in commands)) process.exit(1);
  await commands[command.do](command);
});
tell("ready");
process.stdin.on("end", () => client?.disconnect());
