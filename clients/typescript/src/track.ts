import type { Gap, Position } from "./models.js";

/** As many sources that ended as the gateway itself remembers. */
const EPOCHS_MAX = 64;

/**
 * How far a subscription has come in each source of one channel, and so what is new to it.
 *
 * Offsets grow within a source, which its epoch names. A gateway that continues from an earlier place sends some
 * events again: the highest offset seen of their source says which.
 */
export class Track {
  /** The source of what came last. */
  #epoch: string;
  /** The sources that are live. */
  readonly #offsets = new Map<string, number>();
  readonly #past = new Map<string, number>();
  /** Sources that were over before this place: another subscription needs their events. */
  readonly #over = new Set<string>();

  constructor({ epoch, offset, others = {} }: Position) {
    this.#epoch = epoch;
    this.#offsets.set(epoch, offset);
    for (const [other, at] of Object.entries(others)) this.#offsets.set(other, at);
  }

  /** Where to go on. */
  get position(): Position {
    const { [this.#epoch]: offset = -1, ...others } = Object.fromEntries(this.#offsets);
    return { epoch: this.#epoch, offset, ...(this.#offsets.size > 1 && { others }) };
  }

  /** Whether `position` is one that the gateway understands. */
  get isPlaced(): boolean {
    return this.#epoch !== "" && this.#seen(this.#epoch) >= 0;
  }

  /** Note where the gateway continues. If that is an earlier place, sources that only it names are over. */
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

  /** Name the source of what came before any was known. */
  name(epoch: string): void {
    if (this.#epoch !== "") return;
    this.#epoch = epoch;
    this.#offsets.set(epoch, this.#offsets.get("") ?? -1);
    this.#offsets.delete("");
  }

  /** Whether an event is new; if so, this is where the subscription stands now. `alone`: no other source is live. */
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

  /** What of a gap is new; if it is any, this is where the subscription stands now. */
  misses(gap: Gap): Gap | null {
    const { epoch, from, to, count, reason } = gap;
    if (to === null) return this.#over.delete(epoch) || !this.#end(epoch) || count === 0 ? null : gap;
    if (from === null) this.#over.clear();
    if (this.#over.has(epoch)) return null;
    const seen = this.#seen(epoch);
    // A conflated gap comes behind the events that stand for the others: their place is known already.
    if (reason === "conflated") return to < seen ? null : gap;
    if (to <= seen) return null;
    this.#note(epoch, to);
    this.#epoch = epoch;
    if (reason === "epoch" && seen < 0) this.#endOthers();
    return from !== null && from <= seen ? { ...gap, from: seen + 1, count: null } : gap;
  }

  /** Whether another subscription to the same channel has come further. */
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

  /** Note that a source has ended; false if that was known. The last one stays: it is the position. */
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

/** The positions of tracks, as far as they are known. */
export function positionsOf(tracks: ReadonlyMap<string, Track>): Record<string, Position> {
  const known = [...tracks].filter(([, track]) => track.isPlaced);
  return Object.fromEntries(known.map(([name, track]) => [name, track.position]));
}
