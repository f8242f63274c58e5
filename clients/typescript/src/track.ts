import type { Gap, Position } from "./models.js";

/** As many past epochs as the gateway itself remembers. */
const EPOCHS_MAX = 64;

/**
 * How far a subscription has come in one channel, and so what is new to it.
 *
 * Offsets grow within an epoch. A gateway that goes on from an earlier place sends some events
 * again; they are told by the highest offset seen in their epoch.
 */
export class Track {
  #epoch: string;
  #offset: number;
  readonly #past = new Map<string, number>();
  #rewound = false;

  constructor(epoch: string, offset: number) {
    this.#epoch = epoch;
    this.#offset = offset;
  }

  /** Where to go on. */
  get position(): Position {
    return { epoch: this.#epoch, offset: this.#offset };
  }

  /** Whether `position` is one that the gateway understands. */
  get isPlaced(): boolean {
    return this.#epoch !== "" && this.#offset >= 0;
  }

  /** Note that what comes next begins in `epoch`; if that is another one, it leads up to this one. */
  rewind(epoch: string): void {
    this.#rewound = epoch !== this.#epoch;
  }

  /** Name the epoch of what came before any was known. */
  name(epoch: string): void {
    if (this.#epoch === "") this.#epoch = epoch;
  }

  /** Whether an event is new; if so, this is where the subscription stands now. */
  takes(epoch: string, offset: number): boolean {
    if (epoch === this.#epoch) this.#rewound = false;
    if (this.#rewound || offset <= this.#seen(epoch)) return false;
    this.#move(epoch, offset);
    return true;
  }

  /** What of a gap is new; if it is any, this is where the subscription stands now. */
  misses(gap: Gap): Gap | null {
    const { epoch, from, to } = gap;
    if (epoch === this.#epoch || from === null) this.#rewound = false;
    if (this.#rewound) return null;
    if (to === null) return gap;
    const seen = this.#seen(epoch);
    // A conflated gap comes behind the events that stand for the others: their place is known already.
    if (gap.reason === "conflated") return to < seen ? null : gap;
    if (to <= seen) return null;
    this.#move(epoch, to);
    return from !== null && from <= seen ? { ...gap, from: seen + 1, count: null } : gap;
  }

  /** Whether another subscription to the same channel has come further. */
  isBehind(other: Track): boolean {
    if (!this.isPlaced) return true;
    if (this.#epoch === other.#epoch) return this.#offset < other.#offset;
    return other.#past.has(this.#epoch);
  }

  #seen(epoch: string): number {
    return epoch === this.#epoch ? this.#offset : (this.#past.get(epoch) ?? -1);
  }

  #move(epoch: string, offset: number): void {
    if (epoch !== this.#epoch) {
      this.#past.set(this.#epoch, this.#offset);
      this.#past.delete(epoch);
      if (this.#past.size > EPOCHS_MAX) this.#past.delete(this.#past.keys().next().value as string);
      this.#epoch = epoch;
    }
    this.#offset = offset;
  }
}

/** The positions of tracks, as far as they are known. */
export function positionsOf(tracks: ReadonlyMap<string, Track>): Record<string, Position> {
  const known = [...tracks].filter(([, track]) => track.isPlaced);
  return Object.fromEntries(known.map(([name, track]) => [name, track.position]));
}
