import type { Gap, Position } from "./models.js";

/** How many ended sources to remember: as many as the gateway does. */
const EPOCHS_MAX = 64;

/**
 * The position that a subscription has reached in each source of one channel; it decides which events are new.
 *
 * Offsets grow within a source, which its epoch names. A gateway that continues from an earlier position sends some
 * events again: those up to the highest offset seen of their source.
 */
export class Track {
  /** The source of the newest message. */
  #epoch: string;
  /** The newest offset of each live source. */
  readonly #offsets = new Map<string, number>();
  readonly #past = new Map<string, number>();
  /** Sources that had ended before this position: only another subscription needs their events. */
  readonly #over = new Set<string>();

  constructor({ epoch, offset, others = {} }: Position) {
    this.#epoch = epoch;
    this.#offsets.set(epoch, offset);
    for (const [other, at] of Object.entries(others)) this.#offsets.set(other, at);
  }

  /** Where to continue. */
  get position(): Position {
    const { [this.#epoch]: offset = -1, ...others } = Object.fromEntries(this.#offsets);
    return { epoch: this.#epoch, offset, ...(this.#offsets.size > 1 && { others }) };
  }

  /** Whether `position` is known well enough to be sent to the gateway. */
  get isPlaced(): boolean {
    return this.#epoch !== "" && this.#seen(this.#epoch) >= 0;
  }

  /** Records where the gateway continues. If that is an earlier position, sources that only it names have ended. */
  rewind({ epoch, offset, others = {} }: Position): void {
    const from = new Map([[epoch, offset], ...Object.entries(others)]);
    const isBefore = [...this.#offsets].some(([known, at]) => (from.get(known) ?? -1) < at);
    this.#over.clear();
    for (const [source, at] of from) {
      if (this.#seen(source) >= 0) continue;
      if (!isBefore) this.#note(source, at);
      else if (at > 0) this.#over.add(source);
    }
  }

  /** Names the source of messages that arrived before their epoch was known. */
  name(epoch: string): void {
    if (this.#epoch !== "") return;
    this.#epoch = epoch;
    this.#offsets.set(epoch, this.#offsets.get("") ?? -1);
    this.#offsets.delete("");
  }

  /** Whether an event is new; if so, it becomes the position. `alone` means that no other source is live. */
  takes(epoch: string, offset: number, alone = false): boolean {
    if (this.#over.has(epoch)) return false;
    const seen = this.#seen(epoch);
    if (seen >= 0 && offset >= seen) this.#over.clear();
    if (offset <= seen) return false;
    this.#note(epoch, offset);
    this.#epoch = epoch;
    if (alone && this.#offsets.size > 1) this.#endOthers();
    return true;
  }

  /** Returns the new part of a gap, which then ends at the position; null if nothing is new. */
  misses(gap: Gap): Gap | null {
    const { epoch, from, to, count, reason } = gap;
    if (to === null) return this.#over.delete(epoch) || !this.#end(epoch) || count === 0 ? null : gap;
    if (from === null) this.#over.clear();
    if (this.#over.has(epoch)) return null;
    const seen = this.#seen(epoch);
    // A conflated gap arrives after the events that replaced the others, so their position is already reached.
    if (reason === "conflated") return to < seen ? null : gap;
    if (to <= seen) return null;
    this.#note(epoch, to);
    this.#epoch = epoch;
    if (reason === "epoch" && seen < 0) this.#endOthers();
    return from !== null && from <= seen ? { ...gap, from: seen + 1, count: null } : gap;
  }

  /** Whether another subscription to the same channel is ahead. */
  isBehind(other: Track): boolean {
    if (!this.isPlaced) return true;
    return [...this.#offsets].some(([epoch, at]) =>
      other.#past.has(epoch) || (other.#offsets.get(epoch) ?? at) > at);
  }

  #seen(epoch: string): number {
    return this.#offsets.get(epoch) ?? this.#past.get(epoch) ?? -1;
  }

  #note(epoch: string, offset: number): void {
    this.#past.delete(epoch);
    this.#offsets.set(epoch, offset);
    if (this.#offsets.size > EPOCHS_MAX) this.#end(this.#offsets.keys().next().value as string);
  }

  /** Records that a source has ended; returns false if that was known. The last source stays: it is the position. */
  #end(epoch: string): boolean {
    const offset = this.#offsets.get(epoch);
    if (offset === undefined) return !this.#past.has(epoch);
    if (this.#offsets.size === 1) return true;
    this.#offsets.delete(epoch);
    this.#past.set(epoch, offset);
    if (this.#past.size > EPOCHS_MAX) this.#past.delete(this.#past.keys().next().value as string);
    if (epoch === this.#epoch) this.#epoch = this.#offsets.keys().next().value as string;
    return true;
  }

  #endOthers(): void {
    for (const epoch of [...this.#offsets.keys()]) if (epoch !== this.#epoch) this.#end(epoch);
  }
}

/** The known positions of tracks, by channel. */
export function positionsOf(tracks: ReadonlyMap<string, Track>): Record<string, Position> {
  const known = [...tracks].filter(([, track]) => track.isPlaced);
  return Object.fromEntries(known.map(([name, track]) => [name, track.position]));
}
