export interface Curve {
  /** This publisher's own keys in Z85. */
  publicKey: string
  secretKey: string
  /** To connect: the gateway's public key. To bind: those of all gateways that may connect. */
  gateways: string[]
}

export interface Options {
  /**
   * Either the gateway's endpoint to connect to, or those of several gateways, which all get all events, or one to bind
   * that gateways connect to.
   */
  connect?: string | string[]
  bind?: string
  /** Messages queued for a subscriber before further ones are dropped and counted; 0 = no limit. Default 100,000. */
  highWaterMark?: number
  /** Larger payloads are refused, as the gateway would reject them. Default 1 MiB. */
  payloadBytesMax?: number
  /** How long closing waits until queued messages are sent. Default 1. */
  lingerSeconds?: number
  /** 0 = no heartbeats. Default 1. */
  heartbeatSeconds?: number
  /** The publisher's name, to be shown; default: host and process. */
  name?: string
  /** How many of the newest messages of each topic are kept for replay. Default 0. */
  replay?: number
  /** The endpoint for replay requests. Default: tcp://127.0.0.1:*, for gateways on this host. */
  replayEndpoint?: string
  /** The address by which gateways reach it, if that is not the endpoint bound. */
  replayAddress?: string
  curve?: Curve
}

type Fields = Record<string, unknown>

/** An invalid argument or event; the message says why. Nothing was sent, and no number was used. */
export class PublisherError extends Error {}

/** Read a key file as `gateway keys` makes it. */
export function readKeys(path: string): { publicKey: string; secretKey?: string }

/**
 * Publishes events on a bus. Messages are numbered per topic and sent in the order of the calls.
 *
 * Each method that publishes resolves to false if a subscriber is at the high-water mark: the message is
 * dropped and counted, and its number stays used, so that the gateway notices the loss.
 */
export class Publisher {
  static open(options: Options): Promise<Publisher>
  readonly incarnation: string
  /** The endpoint bound, with its actual port, or the first one connected to. */
  readonly endpoint: string
  readonly replayAddress: string | null
  readonly published: number
  readonly dropped: number
  /** Requests for missed messages that were answered. */
  readonly replayed: number
  /** Handshakes that failed. */
  readonly refused: number
  /** Publish JSON: as an event object if `eventType` is given, else as it is. */
  publish(topic: string, data: unknown, event?: { eventType?: string; timestamp?: Date | string }): Promise<boolean>
  /** Publish JSON text; it is checked and sent unchanged. */
  publishJson(topic: string, text: string): Promise<boolean>
  /** Publish bytes, such as an image; on the bus they are base64, of which the gateway's limit counts 4 for 3 bytes. */
  publishBytes(topic: string, data: Uint8Array, contentType?: string): Promise<boolean>
  metrics(fields: Fields): Promise<boolean>
  signal(kind: string, fields?: Fields): Promise<boolean>
  action(kind: string, fields?: Fields): Promise<boolean>
  log(level: string, message: string, fields?: Fields): Promise<boolean>
  status(state: string, fields?: Fields): Promise<boolean>
  connection(change: string, clientId: string, fields?: Fields): Promise<boolean>
  /** Resolves to whether there is a subscriber, at each endpoint that is connected to; events published before that reach nobody. */
  waitForSubscriber(timeoutSeconds: number): Promise<boolean>
  /** Send a farewell, and queued messages in the background for at most the linger time. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}
