// ws for Node.js, a send per event and client: node ws_server.mjs PORT BUS_PORT
import { createRequire } from "node:module";

const require = createRequire(process.env.PEERS_NODE + "/");
const { WebSocketServer } = require("ws");
const zmq = require("zeromq");

const [port, bus] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: +port, backlog: 4096, perMessageDeflate: false });
const events = new zmq.Subscriber({ receiveHighWaterMark: 0 });
events.connect(`tcp://127.0.0.1:${bus}`);
events.subscribe();
for await (const [, payload] of events)
  for (const client of server.clients) client.send(payload, { binary: false });
