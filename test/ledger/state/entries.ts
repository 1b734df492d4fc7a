import type { Entry } from '../../../ledger/lines/entry.ts';
import type { Actor, LogEvent } from '../../../ledger/lines/events.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { hex, peerOf } from '../../hub/core/fleet.ts';

export const BY: Actor = { kind: 'founder' };
export const TASK = 'abcdefghijkl';

/** A log that grows by one entry at a time. */
export class Entries {
  readonly all: Entry[] = [];

  constructor() {
    this.add({
      type: 'mesh.created',
      body: {
        format: 1,
        name: 'lab',
        founder: peerOf('founder'),
        logKey: Buffer.alloc(32, 1).toString('base64'),
        recoveryKey: Buffer.alloc(32, 2).toString('base64'),
        parent: null,
        nonce: '0'.repeat(32),
      },
    });
  }

  add(event: LogEvent): this {
    const index = this.all.length;
    this.all.push({ index, epoch: 1, time: 1000 + index, ...event });
    return this;
  }

  admit(name: string, peer = peerOf(name)): this {
    const via = { kind: 'approval' as const, code: '1' };
    return this.add({
      type: 'member.admitted',
      body: { peer, name, owner: 'olga', roles: ['worker'], labels: {}, via, by: BY },
    });
  }

  submit(task = TASK, more: object = {}): this {
    const spec = taskSpec.parse({ kind: 'command', argv: ['true'], checks: ['true'], ...more });
    return this.add({
      type: 'task.submitted',
      body: { task, correlation: task, spec, bundle: null, rerunOf: null, by: BY },
    });
  }

  assign(attempt: number, member: string, role: 'execute' | 'verify' = 'execute', task = TASK): this {
    const nonce = hex(`${task}${attempt}`).slice(0, 32);
    return this.add({
      type: 'attempt.assigned',
      body: { task, attempt, correlation: task, role, member: peerOf(member), nonce },
    });
  }

  end(attempt: number, fault: 'machine' | 'task' | 'person' = 'machine', task = TASK): this {
    return this.add({
      type: 'attempt.ended',
      body: {
        task,
        attempt,
        correlation: task,
        fault,
        reason: 'lost',
        detail: null,
        exitCode: null,
        receipt: null,
        envelope: null,
        log: null,
      },
    });
  }

  execute(attempt: number, checksChanged: string[] = [], task = TASK): this {
    return this.add({
      type: 'task.executed',
      body: {
        task,
        attempt,
        correlation: task,
        exitCode: 0,
        commit: null,
        receipt: hex('receipt'),
        envelope: hex('envelope'),
        bundle: null,
        log: null,
        artifacts: [],
        checksChanged,
      },
    });
  }

  verify(attempt: number, passed: boolean, task = TASK): this {
    return this.add({
      type: 'task.verified',
      body: {
        task,
        attempt,
        correlation: task,
        receipt: hex('receipt'),
        verification: hex('verification'),
        envelope: hex('envelope2'),
        passed,
        sameOwner: true,
        detail: null,
      },
    });
  }

  converge(
    verified: boolean,
    confidence: number,
    state: 'delivered' | 'failed' | 'cancelled' = 'delivered',
    task = TASK,
  ): this {
    return this.add({
      type: 'task.converged',
      body: {
        task,
        correlation: task,
        state,
        reason: state === 'failed' ? 'task' : null,
        detail: null,
        verified,
        confidence,
        executor: null,
        verifier: null,
        sameOwner: null,
        attempts: 1,
        commit: null,
        exitCode: 0,
        receipt: null,
        verification: null,
        learned: { queuedMs: null, runMs: null, faults: [] },
      },
    });
  }
}
