import type { MemberMessage } from '../../protocol/session.ts';
import type { MemberEffect } from './types.ts';

/** What a member's core gives out in a step, and the session on which it speaks. */
export class Outbox {
  /** Null: none is open. */
  session: number | null = null;
  /** The founder has answered on it. */
  welcomed = false;
  #effects: MemberEffect[] = [];

  push(effect: MemberEffect): void {
    this.#effects.push(effect);
  }

  /** Before the welcome nothing is said: hello and welcome bring both sides to one view. */
  tell(message: MemberMessage): void {
    if (this.welcomed) this.push({ type: 'send', session: this.session!, message });
  }

  /** What was given out since the last time. */
  take(): MemberEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
