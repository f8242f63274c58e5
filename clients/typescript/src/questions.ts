import { NotConnectedError, RequestRefusedError } from "./errors.js";
import type * as models from "./models.js";

/** What is done with the reply to a message. */
export interface Question {
  answer(message: models.ServerMessage): void;
  fail(error: Error): void;
  /** Called instead of `fail` where the gateway asks to try again; else the same message is sent again. */
  later?(seconds: number): void;
}

/** Asks the gateway, and gives each reply to who asked. What is refused for a while is asked again. */
export class Questions {
  readonly #send: (message: models.ClientMessage) => void;
  readonly #asked = new Map<unknown, Question & { message: models.ClientMessage }>();
  readonly #timers = new Map<Question, ReturnType<typeof setTimeout>>();
  #id = 0;

  constructor(send: (message: models.ClientMessage) => void) {
    this.#send = send;
  }

  ask(message: models.ClientMessage, question: Question): void {
    const id = ++this.#id;
    this.#asked.set(id, { ...question, message });
    this.#send({ ...message, id });
  }

  /** Take a reply; false if nobody waits for it. */
  reply(message: models.ServerMessage & { id?: models.Pong["id"] }): boolean {
    const question = this.#asked.get(message.id);
    if (question === undefined) return false;
    this.#asked.delete(message.id);
    if (message.type !== "error") question.answer(message);
    else if (message.retry_after === undefined) question.fail(new RequestRefusedError(message));
    else if (question.later) question.later(message.retry_after);
    else this.#askLater(question, message.retry_after);
    return true;
  }

  /** Nothing will be answered any more. */
  end(): void {
    const waiting = [...this.#asked.values(), ...this.#timers.keys()];
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#asked.clear();
    for (const one of waiting) one.fail(new NotConnectedError("the connection was lost"));
  }

  #askLater(question: Question & { message: models.ClientMessage }, seconds: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(question);
      this.ask(question.message, question);
    }, seconds * 1000);
    this.#timers.set(question, timer);
  }
}
