// Publish a few events: node example.js [tcp://127.0.0.1:5556]
import { Publisher } from "./src/index.js" // "neurograph-publisher" in your project

const publisher = await Publisher.open({ connect: process.argv[2] ?? "tcp://127.0.0.1:5556", replay: 1000 })
if (!(await publisher.waitForSubscriber(5))) console.error("no gateway yet: what is published now reaches nobody")
await publisher.metrics({ cpu_percent: 12.5, memory_mb: 2048 })
await publisher.log("info", "started", { service: "example" })
await publisher.publish("robots.r2", { x: 1.5 })
await publisher.close()
console.log(`published ${publisher.published}, dropped ${publisher.dropped}`)
