import { isWildcard, matches } from "./channels.js";
import type { ChannelRequest } from "./models.js";
import type { Subscription } from "./subscription.js";

/** As many as one message may name. */
const CHANNELS_MAX = 1_000;

/** Subscriptions that are asked for with one message. */
export interface Batch {
  subscriptions: Subscription[];
  /** By channel. */
  requests: Map<string, ChannelRequest>;
  characters: number;
}

/**
 * The fewest messages that ask for some subscriptions, in order, each of at most `room` characters.
 *
 * One answer says where each channel begins. So two subscriptions with a channel in common share a message
 * only if they begin at the same place.
 */
export function batches(subscriptions: Iterable<Subscription>, room: number): Batch[] {
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
