import { XPublisher } from "zeromq"

const MEND_MS = 1000

/** The socket of one endpoint, with its own queue: a gateway that does not read does not affect the others. */
export class Link {
  subscribed = new Set()
  socket

  #address
  #onRefused
  #mending
  #speaksZmtp = false // whether the newest connection completed its handshake

  constructor(address, options, onRefused) {
    this.#address = address
    this.#onRefused = onRefused
    this.socket = new XPublisher({
      ...options,
      // Without noDrop a socket at its high-water mark drops messages silently. Without verbosity a second subscriber to
      // the same topics, or one that subscribes again, is not noticed. Sending never waits.
      // With a domain, libzmq refuses what does not speak ZMTP 2 or later. Otherwise it assumes ZMTP 1, which has
      // no subscriptions, and makes one; it aborts the process if the socket is just being closed.
      ...{ noDrop: true, verbosity: "allSubs", sendTimeout: 0, zapDomain: "bus" },
    })
  }

  bind() {
    return this.socket.bind(this.#address)
  }

  /** Connect, and connect again if libzmq stops trying, as it does when the other end refuses a handshake. */
  connect() {
    const again = () => {
      if (this.socket.closed) return
      try {
        this.socket.disconnect(this.#address)
      } catch {} // libzmq has done so already
      this.socket.connect(this.#address)
    }
    const { events } = this.socket
    const isTried = () => clearTimeout(this.#mending)
    events.on("disconnect", () => {
      isTried()
      this.#mending = setTimeout(again, MEND_MS)
    })
    events.on("connect:retry", isTried)
    events.on("connect", () => {
      isTried()
      this.#speaksZmtp = false
    })
    events.on("handshake", () => (this.#speaksZmtp = true))
    for (const failed of ["handshake:error:protocol", "handshake:error:auth", "handshake:error:other"]) {
      events.on(failed, this.#onRefused)
    }
    this.socket.connect(this.#address)
  }

  /** Send a message; resolves to false if a subscriber is at the high-water mark. */
  async send(frames) {
    try {
      await this.socket.send(frames)
    } catch (error) {
      if (error.code !== "EAGAIN") throw error
      return false
    }
    return true
  }

  /** Send nothing if the other end does not speak ZMTP: libzmq must not connect to it again to send messages. */
  async stopReconnecting() {
    clearTimeout(this.#mending)
    await new Promise(setImmediate) // what the socket has said so far is read then
    if (!this.#speaksZmtp) this.socket.linger = 0
  }

  close() {
    clearTimeout(this.#mending)
    this.socket.close()
  }
}
