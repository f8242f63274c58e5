import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

import { Store } from "../src/store.js"
import { checkTopic, encode, heartbeats, packEnvelope, parseRequest, PublisherError, replyFrames } from "../src/wire.js"

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../conformance/vectors/${name}.json`, import.meta.url), "utf8"))
const bytes = (hex) => Buffer.from(hex, "hex")

test("envelopes are as the vectors say", () => {
  for (const { name, flags, incarnation, sequence, time_ns, hex } of vectors("envelope").valid) {
    const packed = packEnvelope({
      flags: Number(flags),
      incarnation: BigInt(incarnation),
      sequence: BigInt(sequence),
      timeNs: BigInt(time_ns),
    })
    assert.equal(packed.toString("hex"), hex, name)
  }
})

test("heartbeats are as the vectors say", () => {
  for (const { name, publisher, messages } of vectors("heartbeat").valid) {
    const made = heartbeats({
      ...publisher,
      incarnation: BigInt(`0x${publisher.incarnation}`),
      replayKey: publisher.replay_key,
      sequences: new Map(Object.entries(publisher.sequences)),
    })
    const expected = messages.map(([topic, payload]) => [bytes(topic).toString(), JSON.parse(bytes(payload))])
    assert.deepEqual(made.map(([topic, payload]) => [topic, JSON.parse(payload)]), expected, name)
  }
})

test("replies are as the vectors say", () => {
  const { incarnation, messages, exchanges, invalid } = vectors("replay")
  const store = new Store(1000)
  for (const { payload, envelope } of messages) {
    const frame = bytes(envelope)
    store.append("metrics", Number(frame.readBigUInt64BE(16)), bytes(payload), frame)
  }
  for (const { name, request, reply } of exchanges) {
    const parsed = parseRequest(request.map(bytes))
    const frames = replyFrames(parsed, BigInt(`0x${incarnation}`), store.read(parsed.topic, parsed.first, parsed.last))
    assert.deepEqual(frames.map((frame) => Buffer.from(frame).toString("hex")), reply, name)
  }
  for (const { name, request } of invalid) assert.equal(parseRequest(request.map(bytes)), undefined, name)
})

test("topics are as the vectors say", () => {
  const { valid, invalid } = vectors("topics")
  for (const topic of valid) checkTopic(topic)
  for (const topic of invalid) assert.throws(() => checkTopic(topic), PublisherError, topic)
})

test("what has no JSON is refused", () => {
  const cycle = {}
  cycle.self = cycle
  for (const data of [undefined, () => 1, NaN, { a: [1, Infinity] }, 1n, cycle]) {
    assert.throws(() => encode("a", data), PublisherError)
  }
  assert.equal(encode("a", { a: null, b: "null" }).toString(), '{"a":null,"b":"null"}')
})
