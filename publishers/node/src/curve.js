import { readFileSync } from "node:fs"
import { Router } from "zeromq"

import { PublisherError } from "./wire.js"

/** Read a key file as `gateway keys` makes it: NAME.key, or NAME.key_secret with both. */
export function readKeys(path) {
  const text = readFileSync(path, "utf8")
  const find = (name) => text.match(new RegExp(`^\\s*${name}\\s*=\\s*"(.{40})"`, "m"))?.[1]
  const keys = { publicKey: find("public-key"), secretKey: find("secret-key") }
  if (!keys.publicKey) throw new PublisherError(`${path} holds no CURVE key`)
  return keys
}

/** The options of a socket that binds: it accepts the gateways whose keys `guard` has. */
export function serverOptions({ secretKey }) {
  return { curveServer: true, curveSecretKey: secretKey, zapDomain: "bus", zapEnforceDomain: true }
}

/** The options of a socket that connects. */
export function clientOptions({ publicKey, secretKey, gateways }) {
  if (gateways.length !== 1) throw new PublisherError("curve.gateways: to connect, name one gateway's key")
  return { curvePublicKey: publicKey, curveSecretKey: secretKey, curveServerKey: gateways[0] }
}

/** Answer ZeroMQ's requests whether a gateway may connect (ZAP, ZeroMQ RFC 27). */
export async function guard(context, gateways, onRefused) {
  const socket = new Router({ context, linger: 0 })
  await socket.bind("inproc://zeromq.zap.01")
  const answer = async () => {
    for await (const [peer, empty, version, number, , , , , key] of socket) {
      const known = gateways.includes(z85(key))
      if (!known) onRefused()
      await socket.send([peer, empty, version, number, known ? "200" : "400", known ? "OK" : "unknown key", "", ""])
    }
  }
  answer().catch(() => {}) // closed
  return socket
}

const Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

function z85(bytes) {
  let text = ""
  for (let at = 0; at < bytes.length; at += 4) {
    let value = bytes.readUInt32BE(at)
    let group = ""
    for (let digit = 0; digit < 5; digit++) {
      group = Z85[value % 85] + group
      value = Math.floor(value / 85)
    }
    text += group
  }
  return text
}
