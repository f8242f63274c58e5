// uWebSockets.js, its own publish to all that follow: node uws_server.mjs PORT BUS_PORT
import { createRequire } from "node:module";

const require = createRequire(process.env.PEERS_NODE + "/");
const uws = require("@btc-vision/uwebsockets.js");
const zmq = require("zeromq");

const [port, bus] = process.argv.slice(2);
const app = uws.App();
app.ws("/*", {
  compression: uws.DISABLED,
  idleTimeout: 0,
  maxBackpressure: 64 * 1024 * 1024,
  open: (client) => client.subscribe("metrics"),
});
app.listen("127.0.0.1", +port, (done) => done || process.exit(1));
const events = new zmq.Subscriber({ receiveHighWaterMark: 0 });
events.connect(`tcp://127.0.0.1:${bus}`);
events.subscribe();
for await (const [, payload] of events) app.publish("metrics", payload, false);
