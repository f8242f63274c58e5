import type { BusStatus, EventMessage, Gap, GatewayFigures, StandardChannels, Status } from "./models.js";

/**
 * The type of `data` by channel. Add your own channels by declaration merging:
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

/** The type of a channel's events. The name narrows a union of several channels; for a pattern, the type of `data` is unknown. */
export type EventOf<Name extends string> = Name extends keyof Channels
  ? Event<Channels[Name], Name>
  : Event;

/** The items of a subscription: events, and with the option `gaps` gaps, too. */
export type ItemOf<Name extends string, Options> = Options extends { gaps: true }
  ? EventOf<Name> | Gap
  : EventOf<Name>;
