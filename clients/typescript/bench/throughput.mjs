// How many events per second a client reads of those that a gateway holds, compared with a bare WebSocket that only parses them.
import { Client } from "../dist/index.js";
import { Gateway } from "../test/support/gateway.mjs";

const COUNT = Number(process.argv[2] ?? 100_000);
const ROUNDS = 5;

const readers = {
  async "bare WebSocket"(url) {
    const socket = new WebSocket(`${url}?channels=a&last=${COUNT}`);
    await new Promise((resolve) => {
      let count = 0;
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "event" && (count += message.data.n > 0) === COUNT) resolve();
      };
    });
    socket.close();
  },
  async handler(url) {
    const client = new Client(url);
    await new Promise((resolve) => {
      let count = 0;
      const handler = (event) => (count += event.data.n > 0) === COUNT && resolve();
      client.subscribe("a", handler, { last: COUNT });
      void client.connect();
    });
    client.disconnect();
  },
  async "for await"(url) {
    const client = new Client(url);
    void client.connect();
    let count = 0;
    for await (const event of client.subscribe("a", { last: COUNT })) {
      if ((count += event.data.n > 0) === COUNT) break;
    }
    client.disconnect();
  },
};

const ending = [];
const settings = { "history.events_max": COUNT, "history.bytes_max": COUNT * 1000 };
const gateway = await Gateway.start({ after: (end) => ending.push(end) }, settings);
await gateway.hold("a", 1, COUNT);
const best = Object.fromEntries(Object.keys(readers).map((name) => [name, Infinity]));
for (let round = 0; round < ROUNDS; round += 1) {
  for (const [name, read] of Object.entries(readers)) {
    const start = performance.now();
    await read(gateway.url);
    best[name] = Math.min(best[name], performance.now() - start);
  }
}
for (const [name, milliseconds] of Object.entries(best)) {
  console.log(`${name.padEnd(16)} ${Math.round(COUNT / (milliseconds / 1000)).toLocaleString("en")} events/s`);
}
for (const end of ending) await end();
