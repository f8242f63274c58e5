/** Listeners by the name of the event that they listen to. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(value: never) => void>>();

  /** Adds a listener; returns a function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Calls all listeners, and `failed` with what they throw; returns false if there is no listener. */
  emit<Name extends keyof Events>(
    name: Name,
    value: Events[Name],
    failed: (error: unknown) => void,
  ): boolean {
    const listeners = [...(this.#listeners.get(name) ?? [])] as ((value: Events[Name]) => void)[];
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (error) {
        failed(error);
      }
    }
    return listeners.length > 0;
  }
}
