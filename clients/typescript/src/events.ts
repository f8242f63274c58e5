import type { BusStatus, EventMessage, Gap, GatewayFigures, StandardChannels, Status } from "./models.js";

/**
 * What `data` is, by channel. Add your own channels by declaration merging:
 *
 *     declare module "neurograph-client" {
 *       interface Channels { "robots.r2": { x: number } }
 *     }
 */
export interface Channels extends Omit<StandardChannels, "status"> {
  status: Status & Partial<BusStatus>;
  /** The gateway's own figures. */
  "metrics.gateway": GatewayFigures;
}

/** An event as handlers get it: `channel`, `epoch` and `offset` are its position. */
export interface Event<Data = unknown, Name extends string = string> extends EventMessage {
  channel: Name;
  data: Data;
  epoch: string;
}

/** The events of a channel, by its name, which narrows those of several channels; on a wildcard their data is of no known type. */
export type EventOf<Name extends string> = Name extends keyof Channels
  ? Event<Channels[Name], Name>
  : Event;

/** What a subscription hands over: events, and gaps if it has asked for them. */
export type ItemOf<Name extends string, Options> = Options extends { gaps: true }
  ? EventOf<Name> | Gap
  : EventOf<Name>;
