// The format of messages on the bus, and the checks of what is published (docs/protocol.md, part 1).

export class PublisherError extends Error {
  name = "PublisherError"
}

const TOPIC = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/
const STANDARD = new Set(["metrics", "signals", "actions", "logs", "status", "connections"])
const TOPICS_PER_HEARTBEAT = 1000

export function checkTopic(topic) {
  if (typeof topic !== "string" || topic.length > 128 || !TOPIC.test(topic)) {
    throw new PublisherError(
      `${JSON.stringify(topic)} is not a topic: segments of [A-Za-z0-9_-] joined by dots, at most 128 bytes`,
    )
  }
}

/** An event object; its timestamp is now unless given. */
export function event(eventType, data, timestamp = new Date()) {
  if (typeof eventType !== "string" || !eventType || [...eventType].length > 128) {
    throw new PublisherError(`event_type: ${JSON.stringify(eventType)} is not text of 1 to 128 characters`)
  }
  return { event_type: eventType, timestamp, data }
}

/** JSON of data, as a Buffer; what JSON.stringify would drop or turn into null is refused. */
export function encode(topic, data) {
  let text
  try {
    text = JSON.stringify(data)
    // NaN and Infinity become null. To look at each value is slow, so only where there is a null.
    if (text?.includes("null")) JSON.stringify(data, refuseNotFinite)
  } catch (error) {
    throw new PublisherError(`${topic}: ${error.message}`)
  }
  if (text === undefined) throw new PublisherError(`${topic}: ${typeof data} has no JSON`)
  return Buffer.from(text)
}

/** An event that carries bytes. */
export function bytesEvent(topic, data, contentType) {
  if (STANDARD.has(topic)) {
    throw new PublisherError(`${topic}: a standard channel has typed JSON; publish bytes on another topic`)
  }
  if (!(data instanceof Uint8Array)) throw new PublisherError(`${topic}: ${typeof data} is neither a Buffer nor a Uint8Array`)
  const { buffer, byteOffset, byteLength } = data
  const base64 = Buffer.from(buffer, byteOffset, byteLength).toString("base64")
  return { timestamp: new Date(), content_type: contentType, data_base64: base64 }
}

function refuseNotFinite(key, value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new TypeError(`${key || "data"}: ${value} has no JSON`)
  }
  return value
}

/** The 32 bytes of an envelope; all but `flags` are BigInts. */
export function packEnvelope({ flags, incarnation, sequence, timeNs }) {
  const frame = Buffer.allocUnsafe(32)
  frame.write("NGE1", "latin1")
  frame.writeUInt32BE(flags, 4)
  frame.writeBigUInt64BE(incarnation, 8)
  frame.writeBigUInt64BE(sequence, 16)
  frame.writeBigUInt64BE(timeNs, 24)
  return frame
}

/** The messages of one heartbeat: one for every 1,000 topics. `sequences` is a Map. */
export function heartbeats({ incarnation, name, interval, replay, replayKey, sequences }) {
  const topics = [...sequences]
  const messages = []
  for (let at = 0; at === 0 || at < topics.length; at += TOPICS_PER_HEARTBEAT) {
    const beat = { incarnation: hex(incarnation), name, interval, replay: replay ?? null }
    if (replayKey) beat.replay_key = replayKey
    beat.sequences = Object.fromEntries(topics.slice(at, at + TOPICS_PER_HEARTBEAT))
    if (at + TOPICS_PER_HEARTBEAT < topics.length) beat.more = true
    messages.push(["$heartbeat", Buffer.from(JSON.stringify(beat))])
  }
  return messages
}

export function hex(incarnation) {
  return incarnation.toString(16).padStart(16, "0")
}

/** A gateway's request, from the frames behind its identity; undefined if they are none. */
export function parseRequest(frames) {
  const [magic, number, topic, range] = frames
  if (frames.length !== 4 || magic.toString("latin1") !== "NGR1") return undefined
  if (number.length !== 8 || range.length !== 16) return undefined
  return { number, topic: topic.toString(), first: range.readBigUInt64BE(0), last: range.readBigUInt64BE(8) }
}

export function replyFrames(request, incarnation, pairs) {
  const id = Buffer.allocUnsafe(8)
  id.writeBigUInt64BE(incarnation)
  return ["NGR1", request.number, id, ...pairs]
}
