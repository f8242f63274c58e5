const MIB = 1024 * 1024
const OVERHEAD_BYTES = 256 // the memory of a message besides its payload
const PAIRS_PER_REPLY = 256

/** The newest messages of each topic; beyond 10,000 topics or 128 MiB the least recently used topic is dropped. */
export class Store {
  #messagesMax
  #topics = new Map() // the least recently used topic first
  #bytes = 0

  constructor(messagesMax) {
    this.#messagesMax = messagesMax
  }

  append(topic, sequence, payload, envelope) {
    let kept = this.#topics.get(topic)
    if (kept) this.#topics.delete(topic)
    else kept = { messages: new Map(), oldest: sequence, newest: sequence, bytes: 0 }
    this.#topics.set(topic, kept)
    kept.messages.set(sequence, [payload, envelope])
    kept.newest = sequence
    this.#count(kept, payload.length + OVERHEAD_BYTES)
    while (kept.messages.size > this.#messagesMax || kept.bytes > 16 * MIB) this.#dropOldest(kept)
    while (this.#topics.size > 10_000 || this.#bytes > 128 * MIB) {
      const [least, dropped] = this.#topics.entries().next().value
      this.#topics.delete(least)
      this.#bytes -= dropped.bytes
    }
  }

  /** Payload, envelope, payload, envelope… from `first` to `last` (BigInts): as much as fits into one reply. */
  read(topic, first, last) {
    const pairs = []
    const kept = this.#topics.get(topic)
    if (!kept) return pairs
    let left = MIB
    const begin = first > BigInt(kept.oldest) ? first : BigInt(kept.oldest)
    const end = last < BigInt(kept.newest) ? last : BigInt(kept.newest)
    for (let sequence = Number(begin); sequence <= Number(end); sequence++) {
      const message = kept.messages.get(sequence)
      if (!message) continue
      left -= message[0].length
      if (pairs.length && left < 0) break
      pairs.push(...message)
      if (pairs.length === 2 * PAIRS_PER_REPLY) break
    }
    return pairs
  }

  #dropOldest(kept) {
    const message = kept.messages.get(kept.oldest)
    kept.messages.delete(kept.oldest++)
    if (message) this.#count(kept, -message[0].length - OVERHEAD_BYTES)
  }

  #count(kept, bytes) {
    kept.bytes += bytes
    this.#bytes += bytes
  }
}
