import { SuperfleetError } from '../../protocol/errors.ts';
import type { KnownEntry } from '../lines/entry.ts';

/** An entry that no founder may have written after those before it: the log is damaged or the program is wrong. */
export class StateError extends SuperfleetError {
  readonly index: number;
  readonly entryType: string;

  constructor(entry: KnownEntry, why: string) {
    super('SF_LOG_DAMAGED', `entry ${entry.index} (${entry.type}) cannot follow those before it: ${why}`, {
      expected: 'an entry that the state before it allows',
      got: why,
      hint: 'keep a copy of the data folder and compare the log with a replica',
    });
    this.name = 'StateError';
    this.index = entry.index;
    this.entryType = entry.type;
  }
}

/** A step that the state machine of a task does not have. */
export class IllegalTransition extends StateError {
  constructor(entry: KnownEntry, why: string) {
    super(entry, why);
    this.name = 'IllegalTransition';
  }
}
