import * as assert from 'uvu/assert';
import { defaultBounds } from '../../../ledger/state/reducer.ts';
import { initialState, replay, saveState } from '../../../ledger/state/state.ts';
import { type Assignment, type AttemptResult, leaseKey } from '../../../protocol/session.ts';
import { LogChecker } from '../../sim/invariants.ts';
import { standInDigest } from '../../sim/signer.ts';
import { Fleet, type TestMember } from './fleet.ts';

/** A fleet with a founder that works too, which notes what was signed so that its log can be held against the promises. */
export class NotingFleet extends Fleet {
  readonly #endedTasks: number;
  /** Every statement that was signed, and the lease it was signed for. */
  readonly #signed = new Map<string, string>();

  constructor(endedTasks = defaultBounds.endedTasks) {
    super({}, { endedTasks }, ['operator', 'worker']);
    this.#endedTasks = endedTasks;
  }

  override finish(
    member: TestMember,
    assignment: Assignment,
    change: Partial<AttemptResult> = {},
    passed = true,
  ): AttemptResult {
    const result = super.finish(member, assignment, change, passed);
    if (result.envelope !== null) this.noteSigned(member, assignment, result.envelope);
    return result;
  }

  noteSigned(member: TestMember, assignment: Assignment, envelope: string): void {
    this.#signed.set(standInDigest(envelope), `${leaseKey(assignment)} by ${member.peer}`);
  }

  /** What the log gives is what the core has, and nothing in it breaks a promise that the simulator watches over. */
  agreesWithItsLog(): void {
    const replayed = replay(structuredClone(this.entries), initialState({ endedTasks: this.#endedTasks }));
    assert.is(JSON.stringify(saveState(replayed)), JSON.stringify(saveState(this.core.state)));
    const checker = new LogChecker(this.#signed);
    for (const entry of this.entries) checker.take(structuredClone(entry));
  }
}
