import type { TaskRecord } from '../../../ledger/state/task-record.ts';

/** Delivered tasks that rest on the word of a machine in quarantine alone. Found anew from the state after a restart. */
export class Reverifications {
  /** Those that wait to be verified again, by whose word they rest on. Who was looked at in vain goes to the end. */
  readonly due = new Map<string, string>();
  /** Those that are being verified again; any of them may leave the state meanwhile. */
  readonly open = new Map<string, TaskRecord>();
  /** Somebody came into quarantine, out of it, or a lease ended: what is due is to be looked up. */
  stale = true;
  /** What the pool had told when all were busy. */
  seen = -1;
  /** Those whose last leases persons ended, by the number of the last: none of it begins before `until` (monotonic). */
  readonly waits = new Map<string, { last: number; until: number }>();
  /** None begins before (monotonic). */
  notBefore = 0;

  /** Its lease is over. */
  ended(task: string): void {
    this.open.delete(task);
    this.stale = true;
  }
}
