// A real gateway process, a real publisher, and a relay between gateway and client that can fail.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
export const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
export const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv/bin/python");
const ENV = {
  ...process.env,
  PYTHONUNBUFFERED: "1",
  PYTHONPATH: [ROOT, join(ROOT, "publishers/python/src")].join(":"),
};

/** Waits until `condition` returns a true value, and returns that. */
export async function eventually(condition, saying = String(condition), withinMs = 60_000) {
  const ends = Date.now() + withinMs;
  for (;;) {
    const found = await condition();
    if (found) return found;
    assert.ok(Date.now() < ends, `timed out waiting for: ${saying}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The helper process that starts gateways and publishes: one for all tests of a file; it ends with them. */
class Helper {
  constructor() {
    this.process = spawn(PYTHON, [join(PACKAGE, "test/support/gateways.py")], {
      env: ENV,
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.answers = createInterface(this.process.stdout)[Symbol.asyncIterator]();
    this.last = Promise.resolve();
    this.process.unref();
    this.process.stdin.unref();
    this.process.stdout.unref();
  }

  /** Sends an order to the helper process and waits for its answer; orders are answered in sequence. */
  ask(order) {
    const answer = this.last.then(async () => {
      this.process.stdout.ref();
      this.process.stdin.write(`${JSON.stringify(order)}\n`);
      const { value } = await this.answers.next();
      this.process.stdout.unref();
      assert.ok(value !== undefined, "the helper process (test/support/gateways.py) has exited");
      return JSON.parse(value);
    });
    this.last = answer.catch(() => {});
    return answer;
  }
}

let helper;
const ask = (order) => (helper ??= new Helper()).ask(order);

/** Returns an unused endpoint. */
export async function freeEndpoint() {
  return `tcp://127.0.0.1:${await freePort()}`;
}

/** Sends raw frames to the gateway's endpoint, as a publisher that does not use the gateway's format. */
export function sendFrames(endpoint, ...frames) {
  return ask({ send: frames.map((frame) => Buffer.from(frame).toString("base64")), to: endpoint });
}

/** Returns a self-signed certificate and its key, as options of `https.createServer`. */
export async function selfSigned() {
  const folder = mkdtempSync(join(tmpdir(), "ng-"));
  const [cert, key] = (await ask({ certificate: folder })).map((file) => readFileSync(file));
  rmSync(folder, { recursive: true });
  return { cert, key };
}

/** Returns an unused TCP port outside the kernel's range for outgoing connections, so that it stays free while a server restarts. */
export async function freePort() {
  for (;;) {
    const server = net.createServer();
    try {
      server.listen(20_000 + Math.floor(Math.random() * 12_768), "127.0.0.1");
      await once(server, "listening");
    } catch {
      continue;
    }
    const { port } = server.address();
    server.close();
    await once(server, "close");
    return port;
  }
}

export class Gateway {
  /** Starts a gateway with `settings`; it ends with the test `t`. */
  static async start(t, settings = {}) {
    const gateway = new Gateway(settings);
    t.after(() => gateway.stop());
    gateway.port = await freePort();
    await gateway.start();
    return gateway;
  }

  constructor(settings) {
    this.folder = mkdtempSync(join(tmpdir(), "ng-"));
    this.bus = `ipc://${this.folder}/bus`;
    this.settings = { "bus.discovery_seconds": 0, figures_seconds: 0, allowed_origins: "*", "shutdown.reconnect_spread_seconds": 0.2, ...settings };
    this.log = join(this.folder, "log");
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  async start() {
    const arguments_ = ["--port", String(this.port), "--connect", `ipc://${this.folder}/unused`, "--bind", this.bus];
    for (const [name, value] of Object.entries(this.settings)) arguments_.push("--set", `${name}=${value}`);
    this.pid = await ask({ start: arguments_, log: this.log });
    await eventually(async () => {
      assert.ok(!(await this.ended()), readFileSync(this.log, "utf8"));
      const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`).catch(() => null);
      return answer?.ok;
    }, "the gateway is ready");
  }

  /** Whether its process has exited. */
  async ended() {
    return (await ask({ ended: this.pid })) !== null;
  }

  async end(signal = "SIGTERM") {
    process.kill(this.pid, signal);
    await eventually(() => this.ended(), "the gateway has exited");
  }

  async stop() {
    await ask({ leave: this.bus });
    if (this.pid && !(await this.ended())) await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Publishes events with `n` from..to on a channel. */
  publish(channel, from, to = from, more = {}) {
    return ask({ publish: channel, bus: this.bus, from, to, ...more });
  }

  /** Restarts the publisher with a new incarnation. */
  restartPublisher() {
    return ask({ restart: this.bus });
  }

  /** Publishes, and waits until the gateway has all events, so that the channel's newest offset is `to`. */
  async hold(channel, from, to = from, more = {}) {
    await this.publish(channel, from, to, more);
    await eventually(async () => {
      const answer = await fetch(`http://127.0.0.1:${this.port}/api/v1/websocket/channels/${channel}`);
      return answer.ok && (await answer.json()).position.offset >= to;
    }, `the newest offset of ${channel} is ${to}`);
  }

  /** Sends an event over REST: `{"everyone": true}`, `{"client_id": …}`, `{"channel": …}`. */
  async broadcast(target, data) {
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/v1/websocket/broadcast`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...target, event: { event_type: "note", data } }),
    });
    assert.ok(answer.ok, await answer.text());
  }

  /** Returns the connected clients. */
  async clients() {
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/v1/websocket/status?limit=100`);
    return (await answer.json()).clients;
  }
}

/** A TCP relay in front of a gateway, which can cut its connections, refuse new ones, or forward nothing. */
export class Relay {
  static async start(t, gateway) {
    const relay = new Relay(gateway);
    await once(relay.server.listen(0, "127.0.0.1"), "listening");
    t.after(() => relay.stop());
    return relay;
  }

  constructor(gateway) {
    this.pairs = new Set();
    this.accepted = 0;
    this.refusing = false;
    this.silent = false;
    this.server = net.createServer((near) => {
      if (this.refusing) return near.destroy();
      this.accepted += 1;
      const far = net.connect(gateway.port, "127.0.0.1");
      const pair = [near, far];
      this.pairs.add(pair);
      near.on("data", (data) => this.silent || far.write(data));
      far.on("data", (data) => this.silent || this.#toClient(near, data));
      for (const one of pair) {
        one.on("error", () => {});
        one.on("close", () => {
          pair.forEach((socket) => socket.destroy());
          this.pairs.delete(pair);
        });
      }
    });
  }

  get url() {
    return `ws://127.0.0.1:${this.server.address().port}/ws`;
  }

  cut() {
    for (const pair of this.pairs) pair.forEach((socket) => socket.destroy());
  }

  /** Cuts each connection after this many more bytes to the client. */
  cutAfter(bytes) {
    for (const [near] of this.pairs) near.bytesLeft = bytes;
  }

  #toClient(near, data) {
    if (near.bytesLeft === undefined) return near.write(data);
    near.bytesLeft -= data.length;
    if (near.bytesLeft > 0) return near.write(data);
    near.end(data.subarray(0, data.length + near.bytesLeft));
  }

  stop() {
    this.cut();
    this.server.close();
  }
}
