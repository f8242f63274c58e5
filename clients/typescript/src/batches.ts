import { isWildcard, matches } from "./channels.js";
import type { ChannelRequest } from "./models.js";
import type { Subscription } from "./subscription.js";

/** The gateway's limit on the channels of one message. */
export const CHANNELS_MAX = 1_000;
/** Room for everything in a subscribe message except its positions. */
const REQUEST_BYTES_MAX = 8_192;

/** Subscriptions that are requested with one message. */
export interface Batch {
  subscriptions: Subscription[];
  /** By channel. */
  requests: Map<string, ChannelRequest>;
  characters: number;
}

/**
 * Distributes subscriptions, in order, over as few messages as possible, each of at most `most` characters.
 *
 * The answer to a message has one position per channel. So two subscriptions with a channel in common share a
 * message only if they begin at the same position.
 */
export function batches(subscriptions: Iterable<Subscription>, most: number): Batch[] {
  const room = most - REQUEST_BYTES_MAX;
  const made: Batch[] = [];
  for (const one of subscriptions) {
    const requests = one.request(room);
    const characters = JSON.stringify(requests).length;
    let batch = made.at(-1);
    if (
      !batch ||
      batch.characters + characters > room ||
      batch.requests.size + requests.length > CHANNELS_MAX ||
      requests.some((request) => conflicts(request, (batch as Batch).requests))
    ) {
      made.push((batch = { subscriptions: [], requests: new Map(), characters: 0 }));
    }
    batch.subscriptions.push(one);
    for (const request of requests) batch.requests.set(request.channel, request);
    batch.characters += characters;
  }
  return made;
}

function conflicts(request: ChannelRequest, others: Map<string, ChannelRequest>): boolean {
  const same = others.get(request.channel);
  if (same) return JSON.stringify(same) !== JSON.stringify(request);
  for (const other of others.values()) {
    if (!beginsInThePast(request) && !beginsInThePast(other)) continue;
    if (isWildcard(request.channel) && isWildcard(other.channel)) return true;
    if (matches(request.channel, other.channel) || matches(other.channel, request.channel)) return true;
  }
  return false;
}

function beginsInThePast({ last, since }: ChannelRequest): boolean {
  return last !== undefined || since !== undefined;
}
