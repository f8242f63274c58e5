import { randomBytes } from "node:crypto"
import { hostname } from "node:os"
import { Context, Router } from "zeromq"

import { Link } from "./link.js"
import { clientOptions, guard, serverOptions } from "./curve.js"
import { Store } from "./store.js"
import { bytesEvent, checkTopic, encode, event, heartbeats, hex, packEnvelope, parseRequest, PublisherError, replyFrames } from "./wire.js"

export { readKeys } from "./curve.js"
export { PublisherError }

const TOPICS_MAX = 100_000

/** Publishes events on a bus; see index.d.ts for what it takes and gives. */
export class Publisher {
  published = 0
  dropped = 0
  replayed = 0
  refused = 0
  endpoint = ""
  replayAddress = null

  #options
  #incarnation = randomBytes(8).readBigUInt64BE()
  #sequences = new Map()
  #waiting = new Set()
  #closed = false
  #context = new Context()
  #links = [] // one for each endpoint
  #router
  #guard
  #store
  #timer

  /** Open a publisher: `await Publisher.open({ connect: "tcp://127.0.0.1:5556" })`. */
  static async open(options) {
    const publisher = new Publisher(options)
    try {
      await publisher.#open()
    } catch (error) {
      publisher.#release()
      throw error instanceof PublisherError ? error : new PublisherError(error.message)
    }
    return publisher
  }

  constructor(options) {
    this.#options = {
      highWaterMark: 100_000,
      payloadBytesMax: 1_048_576,
      lingerSeconds: 1,
      heartbeatSeconds: 1,
      name: `${hostname()}:${process.pid}`.slice(-64),
      replay: 0,
      replayEndpoint: "tcp://127.0.0.1:*",
      ...options,
    }
    const { connect, bind, heartbeatSeconds, replay, name } = this.#options
    const endpoints = [connect ?? [], bind ?? []].flat()
    if (!connect?.length === !bind) throw new PublisherError("give either connect or bind")
    const twice = endpoints.find((one, at) => endpoints.indexOf(one) !== at)
    if (twice) throw new PublisherError(`connect: ${twice} is there twice; its gateway would get each event twice`)
    if (replay && !heartbeatSeconds) {
      throw new PublisherError("replay: heartbeats say where to ask; heartbeatSeconds is 0")
    }
    if (!(heartbeatSeconds >= 0 && heartbeatSeconds <= 3600)) {
      throw new PublisherError(`heartbeatSeconds: ${heartbeatSeconds} is not within 0 to 3600`)
    }
    if (name.length > 64) throw new PublisherError(`name: ${name} has more than 64 characters`)
  }

  get incarnation() {
    return hex(this.#incarnation)
  }

  async #open() {
    const { connect, bind, highWaterMark, lingerSeconds, heartbeatSeconds, curve, replay } = this.#options
    const linger = Math.round(lingerSeconds * 1000)
    const context = this.#context
    if (curve) this.#guard = await guard(context, curve.gateways, () => this.refused++)
    if (replay) {
      this.#store = new Store(replay)
      this.#router = new Router({
        ...{ context, linger, mandatory: true, sendHighWaterMark: 32, sendTimeout: 0, maxMessageSize: 65_536 },
        ...(curve ? serverOptions(curve) : {}),
      })
      await this.#router.bind(this.#options.replayEndpoint)
      this.replayAddress = this.#options.replayAddress ?? this.#router.lastEndpoint
      this.#answer().catch(() => {}) // closed
    }
    const keys = curve ? (bind ? serverOptions(curve) : clientOptions(curve)) : {}
    for (const address of [connect || bind].flat()) {
      const link = new Link(address, { context, linger, sendHighWaterMark: highWaterMark, ...keys }, () => this.refused++)
      this.#links.push(link)
      await (bind ? link.bind() : link.connect())
      this.#listen(link).catch(() => {}) // closed
    }
    this.endpoint = this.#links[0].socket.lastEndpoint
    if (heartbeatSeconds) {
      const beat = () => this.#links.forEach((link) => this.#beat(link, heartbeatSeconds))
      this.#timer = setInterval(beat, heartbeatSeconds * 1000)
      this.#timer.unref()
    }
  }

  async publish(topic, data, { eventType, timestamp } = {}) {
    checkTopic(topic)
    if (eventType !== undefined) data = event(eventType, data, timestamp)
    else if (timestamp !== undefined) throw new PublisherError("a timestamp belongs to an event: give its eventType, too")
    return this.#send(topic, encode(topic, data))
  }

  async publishJson(topic, text) {
    checkTopic(topic)
    try {
      JSON.parse(text)
    } catch (error) {
      throw new PublisherError(`${topic}: ${error.message}`)
    }
    return this.#send(topic, Buffer.from(text))
  }

  async publishBytes(topic, data, contentType) {
    checkTopic(topic)
    return this.#send(topic, encode(topic, bytesEvent(topic, data, contentType)))
  }

  metrics(fields) {
    return this.publish("metrics", fields, { eventType: "system_metrics" })
  }

  signal(kind, fields = {}) {
    const eventType = `signal.${kind}`
    return this.publish("signals", { event_type: eventType, ...fields }, { eventType })
  }

  action(kind, fields = {}) {
    return this.publish("actions", { action_type: kind, ...fields }, { eventType: "action.executed" })
  }

  log(level, message, fields = {}) {
    return this.publish("logs", { level, message, ...fields }, { eventType: `log.${level.toLowerCase()}` })
  }

  status(state, fields = {}) {
    return this.publish("status", { status: state, ...fields }, { eventType: `status.${state}` })
  }

  connection(change, clientId, fields = {}) {
    return this.publish("connections", { client_id: clientId, ...fields }, { eventType: `client.${change}` })
  }

  waitForSubscriber(timeoutSeconds) {
    if (this.#isAwaited()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const done = (is) => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve(is)
      }
      const timer = setTimeout(done, timeoutSeconds * 1000, false)
      this.#waiting.add(done)
    })
  }

  /** Whether all endpoints have a subscriber. */
  #isAwaited() {
    return this.#links.every((link) => link.subscribed.size)
  }

  async close() {
    if (this.#closed) return
    this.#closed = true
    if (this.#options.heartbeatSeconds) await Promise.all(this.#links.map((link) => this.#beat(link, 0)))
    if (!this.#options.bind) await Promise.all(this.#links.map((link) => link.stopReconnecting()))
    this.#release()
  }

  async [Symbol.asyncDispose]() {
    await this.close()
  }

  async #send(topic, payload) {
    if (this.#closed) throw new PublisherError("this publisher is closed")
    const { payloadBytesMax, heartbeatSeconds } = this.#options
    if (payload.length > payloadBytesMax) {
      throw new PublisherError(
        `${topic}: ${payload.length} bytes of JSON exceed ${payloadBytesMax}: publish less at once, ` +
          "or raise payloadBytesMax here and ingest.payload_bytes_max at the gateway",
      )
    }
    const sequence = (this.#sequences.get(topic) ?? 0) + 1
    if (sequence === 1 && this.#sequences.size >= TOPICS_MAX) {
      throw new PublisherError(`${topic}: one topic too many; a publisher numbers ${TOPICS_MAX} of them`)
    }
    this.#sequences.set(topic, sequence)
    const envelope = packEnvelope({
      flags: heartbeatSeconds ? 1 : 0,
      incarnation: this.#incarnation,
      sequence: BigInt(sequence),
      timeNs: BigInt(Date.now()) * 1_000_000n,
    })
    this.#store?.append(topic, sequence, payload, envelope)
    const sent = await Promise.all(this.#links.map((link) => link.send([topic, payload, envelope])))
    if (!sent.every(Boolean)) {
      this.dropped++
      return false
    }
    this.published++
    return true
  }

  async #beat(link, interval) {
    const about = {
      ...{ incarnation: this.#incarnation, name: this.#options.name, interval, sequences: this.#sequences },
      ...{ replay: this.replayAddress, replayKey: this.replayAddress && this.#options.curve?.publicKey },
    }
    try {
      await Promise.all(heartbeats(about).map((message) => link.socket.send(message)))
    } catch {
      // At the high-water mark: the next heartbeat has the same numbers.
    }
  }

  /** Read subscriptions, and send new subscribers a heartbeat. */
  async #listen(link) {
    for await (const [message] of link.socket) {
      const prefix = message.toString("latin1", 1)
      if (message[0] === 0) link.subscribed.delete(prefix)
      if (message[0] !== 1) continue
      link.subscribed.add(prefix)
      if (this.#options.heartbeatSeconds && !this.#closed) await this.#beat(link, this.#options.heartbeatSeconds)
      if (this.#isAwaited()) for (const done of this.#waiting) done(true)
    }
  }

  /** Answer replay requests of gateways. */
  async #answer() {
    for await (const [asker, ...frames] of this.#router) {
      const request = parseRequest(frames)
      if (!request) continue
      const pairs = this.#store.read(request.topic, request.first, request.last)
      try {
        await this.#router.send([asker, ...replyFrames(request, this.#incarnation, pairs)])
        this.replayed++
      } catch {
        // The requester is gone or does not read; it will request again.
      }
    }
  }

  #release() {
    clearInterval(this.#timer)
    this.#closed = true
    for (const one of [...this.#links, this.#router, this.#guard]) one?.close()
  }
}
