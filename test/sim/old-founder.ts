import { heartbeatMs, leaseMs } from '../../protocol/limits.ts';
import { type FounderMessage, type MemberMessage, SESSION_VERSION } from '../../protocol/session.ts';
import type { Machine } from './machine.ts';
import type { End } from './network.ts';

/** A process that led the mesh in an epoch that is over, and does not know it: it greets whoever comes, and stops the work. */
export class OldFounder {
  readonly #machine: Machine;
  readonly #mesh: string;
  readonly #epoch: number;

  constructor(machine: Machine, mesh: string, epoch: number) {
    this.#machine = machine;
    this.#mesh = mesh;
    this.#epoch = epoch;
    machine.start();
  }

  /** Its end of a session. */
  end(send: (message: FounderMessage) => void): End<MemberMessage> {
    const message = (said: MemberMessage): void => {
      if (said.type !== 'hello') return;
      send({
        type: 'welcome',
        version: SESSION_VERSION,
        features: [],
        mesh: this.#mesh,
        epoch: this.#epoch,
        heartbeatMs,
        leaseMs,
        paused: false,
        resume: said.held,
        checkpoint: null,
      });
      for (const lease of said.held)
        send({ type: 'cancel', ...lease, correlation: lease.task, why: 'superseded' });
    };
    return { machine: this.#machine, message, closed: () => {} };
  }
}
