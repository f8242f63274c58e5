// Asks a gateway as Node's fetch and WebSocket do.
const [base, body, ...paths] = process.argv.slice(2);
for (let i = 0; i < paths.length; i += 2) console.log(paths[i], (await fetch(base + paths[i + 1])).status);
const headers = { "Content-Type": "application/json" };
console.log("POST", (await fetch(`${base}/api/v1/websocket/broadcast`, { method: "POST", headers, body })).status);
const stream = await fetch(`${base}/events?channels=stack`);
const { value } = await stream.body.getReader().read();
console.log("SSE", new TextDecoder().decode(value).startsWith("event: connected") ? stream.status : "no event");
const socket = new WebSocket(`${base.replace("http", "ws")}/ws`);
const { data } = await new Promise((resolve, reject) => Object.assign(socket, { onmessage: resolve, onerror: reject }));
console.log("WebSocket", JSON.parse(data).type === "connected" ? 101 : data);
process.exit();
