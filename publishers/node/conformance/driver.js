// The Node publisher, with a driver that reads commands as lines of JSON: see publishers/conformance.
import { readdirSync, statSync } from "node:fs"
import { createInterface } from "node:readline"
import { Publisher as Bare } from "zeromq"

import { Publisher, PublisherError, readKeys } from "../src/index.js"
import { packEnvelope } from "../src/wire.js"

let publisher, bare

function curve({ key_file, gateways_file }) {
  const files = statSync(gateways_file).isDirectory()
    ? readdirSync(gateways_file).map((name) => `${gateways_file}/${name}`)
    : [gateways_file]
  return { ...readKeys(key_file), gateways: files.map((file) => readKeys(file).publicKey) }
}

const commands = {
  async open(o) {
    const options = {
      ...{ connect: o.connect, bind: o.bind, name: o.name, replay: o.replay, highWaterMark: o.high_water_mark },
      ...{ lingerSeconds: o.linger_seconds, heartbeatSeconds: o.heartbeat_seconds, curve: o.curve && curve(o.curve) },
    }
    for (const key in options) if (options[key] === undefined) delete options[key]
    publisher = await Publisher.open(options)
    return { incarnation: publisher.incarnation, endpoint: publisher.endpoint, replay: publisher.replayAddress }
  },
  wait: ({ seconds }) => publisher.waitForSubscriber(seconds),
  kind({ kind, fields: { kind: what, level, message, state, change, client_id, ...fields } }) {
    const positional = { signal: [what], action: [what], log: [level, message], status: [state] }
    return publisher[kind](...(kind === "connection" ? [change, client_id] : positional[kind] ?? []), fields)
  },
  publish: ({ topic, data, event_type: eventType }) => publisher.publish(topic, data, { eventType }),
  raw: ({ topic, json }) => publisher.publishJson(topic, json),
  bytes: ({ topic, hex, content_type }) => publisher.publishBytes(topic, Buffer.from(hex, "hex"), content_type),
  unencodable: ({ topic }) => publisher.publish(topic, { a: [NaN] }),
  async burst({ topic, count, bytes }) {
    const { published, dropped } = publisher
    const sent = []
    for (let n = 0; n < count; n++) {
      const empty = JSON.stringify({ n, fill: "" }).length
      sent.push(publisher.publish(topic, { n, fill: "x".repeat(bytes - empty) }))
    }
    await Promise.all(sent)
    return { published: publisher.published - published, dropped: publisher.dropped - dropped }
  },
  counts: () => ({ published: publisher.published, dropped: publisher.dropped }),
  pack({ flags, incarnation, sequence, time_ns }) {
    const [id, number, timeNs] = [incarnation, sequence, time_ns].map(BigInt)
    return packEnvelope({ flags: Number(flags), incarnation: id, sequence: number, timeNs }).toString("hex")
  },
  async bench({ topic, count, json }) {
    const data = JSON.parse(json)
    const began = performance.now()
    for (let n = 0; n < count; n++) await publisher.publish(topic, data)
    return (performance.now() - began) / 1000
  },
  bare_open({ endpoint }) {
    bare = new Bare({ sendHighWaterMark: 0, linger: 0 })
    bare.connect(endpoint)
    return true
  },
  async bare({ topic, count, json }) {
    const envelope = Buffer.alloc(32)
    const payload = Buffer.from(json)
    const began = performance.now()
    for (let n = 0; n < count; n++) await bare.send([topic, payload, envelope])
    return (performance.now() - began) / 1000
  },
  async close() {
    await publisher.close()
    return true
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line)
  let answer
  try {
    answer = { ok: await commands[name](given) }
  } catch (error) {
    if (!(error instanceof PublisherError)) throw error
    answer = { error: error.message }
  }
  process.stdout.write(JSON.stringify(answer) + "\n")
}
await publisher?.close()
bare?.close()
