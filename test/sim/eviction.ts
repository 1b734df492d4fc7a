import type { FounderCore } from '../../hub/core/founder.ts';
import { leaseKey, type MemberMessage } from '../../protocol/session.ts';
import type { FounderHost } from './founder-host.ts';
import { Violation } from './violation.ts';

/**
 * The founder takes in a member's word. Where that is that its owner, or whoever stopped the machine, ended an attempt, this
 * counts neither against the task nor against the machine: both have the faults that they had before.
 */
export function heard(founder: FounderHost, peer: string, message: MemberMessage, step: () => void): void {
  const ownersWord = message.type === 'stopped' && (message.why === 'owner' || message.why === 'shutdown');
  // What else was to be taken in that step may well raise them.
  if (ownersWord) founder.takeWaiting();
  const { core } = founder;
  if (core === null || !ownersWord) {
    step();
    return;
  }
  const before = counted(core, peer, message.task);
  step();
  const after = counted(core, peer, message.task);
  if (before !== null && after !== null && after !== before)
    throw new Violation(
      'owners',
      `its owner stopped ${leaseKey(message)}, and faults rise from ${before} to ${after}`,
    );
}

/** Null: the task has left the state. */
function counted({ state }: FounderCore, peer: string, id: string): string | null {
  const task = state.tasks.byId.get(id);
  if (task === undefined) return null;
  const { retriesUsed: retries, machineFaults: machine, verifierFaults: verifier, avoid } = task;
  const { machine: lost = 0, task: failed = 0 } = state.tasks.blame.get(peer) ?? {};
  return JSON.stringify({ retries, machine, verifier, avoid, of: { lost, failed } });
}
