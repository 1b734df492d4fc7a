import type { Entry, KnownEntry } from '../../ledger/entry.ts';
import type { EventBody } from '../../ledger/events.ts';
import { knownEntry } from '../../ledger/state/state.ts';

/** A promise that did not hold; the run that found it is named by its seed. */
export class Violation extends Error {}

interface Open {
  number: number;
  role: string;
  member: string;
  epoch: number;
}

interface Seen {
  open: Map<number, Open>;
  accepted: { attempt: number; member: string; receipt: string } | null;
  acceptances: number;
  withdrawals: number;
  verified: EventBody<'task.verified'> | null;
  verifier: string | null;
  /** Attempts of which a late result is kept. */
  evidence: Set<number>;
  ended: boolean;
  /** A model waits for a person. */
  asks: boolean;
  /** Models that refused it. */
  rejections: number;
  /** Attempts whose model was not sure. */
  doubted: Set<number>;
  flaky: boolean;
  /** Commits of parts. */
  parts: Set<string>;
}

/**
 * What the log may say, told a second time and more simply than the reducers: promises 10, 12, 15 and 19. `honest`:
 * the receipts that executors truly made, by digest, with the lease they made it for.
 */
export function checkLog(entries: Entry[], honest: ReadonlyMap<string, string>): void {
  const tasks = new Map<string, Seen>();
  const owners = new Map<string, string>();
  let paused = false;
  for (const raw of entries) {
    const entry = knownEntry(raw);
    if (entry === null) continue;
    const fail = (why: string): never => {
      throw new Violation(`entry ${entry.index} (${entry.type}): ${why}`);
    };
    switch (entry.type) {
      case 'mesh.paused':
        paused = true;
        break;
      case 'mesh.resumed':
        paused = false;
        break;
      case 'member.admitted':
        owners.set(entry.body.peer, entry.body.owner);
        break;
      case 'member.revoked':
      case 'member.left':
        owners.delete(entry.body.peer);
        break;
      case 'attempt.assigned':
        if (paused) fail('given out while the mesh is paused (promise 15)');
        if (!owners.has(entry.body.member)) fail('given to a machine that is no member');
    }
    checkTask(tasks, entry, honest, owners, fail);
  }
}

function checkTask(
  tasks: Map<string, Seen>,
  entry: KnownEntry,
  honest: ReadonlyMap<string, string>,
  owners: ReadonlyMap<string, string>,
  fail: (why: string) => never,
): void {
  if (entry.type === 'task.submitted') {
    const { continues } = entry.body;
    if (continues !== undefined && !tasks.get(continues.task)?.parts.has(continues.commit))
      fail('goes on from a part that is nowhere');
    tasks.set(entry.body.task, {
      open: new Map(),
      accepted: null,
      acceptances: 0,
      withdrawals: 0,
      verified: null,
      verifier: null,
      evidence: new Set(),
      ended: false,
      asks: false,
      rejections: 0,
      doubted: new Set(),
      flaky: false,
      parts: new Set(),
    });
    return;
  }
  if (!('task' in entry.body)) return;
  const seen = tasks.get(entry.body.task) ?? fail('of a task that was not submitted');
  if (seen.ended && entry.type !== 'task.evidence' && entry.type !== 'task.applied')
    fail('after its task ended');
  switch (entry.type) {
    case 'attempt.assigned': {
      const { attempt, role, member } = entry.body;
      for (const open of seen.open.values())
        if (open.role === role) fail(`two leases to ${role} at one time (promise 10)`);
      if (role === 'verify' && member === seen.accepted?.member) fail('verified by its executor');
      if (role === 'execute' && seen.asks) fail('given out while it waits for a person');
      seen.open.set(attempt, { number: attempt, role, member, epoch: entry.epoch });
      break;
    }
    case 'task.asked':
      if (seen.asks || seen.open.get(entry.body.attempt)?.role !== 'execute') fail('asks out of turn');
      seen.asks = true;
      break;
    case 'task.answered':
      if (!seen.asks) fail('answered, and nothing was asked');
      seen.asks = false;
      break;
    case 'task.rejected':
      seen.rejections += 1;
      break;
    case 'task.doubted':
      seen.doubted.add(entry.body.attempt);
      break;
    case 'task.flaky':
      seen.flaky = true;
      break;
    case 'task.partial':
      seen.parts.add(entry.body.commit);
      break;
    case 'task.evidence':
      if (seen.evidence.has(entry.body.attempt)) fail('a second late result of one attempt');
      seen.evidence.add(entry.body.attempt);
      break;
    case 'attempt.ended':
      if (seen.accepted?.attempt === entry.body.attempt) {
        if (seen.verified?.passed !== false)
          fail('an accepted result is withdrawn without a word against it');
        seen.accepted = null;
        seen.verified = null;
        seen.withdrawals += 1;
      } else if (!seen.open.delete(entry.body.attempt)) fail('of a lease that is not open');
      if (
        seen.rejections > 1 &&
        entry.body.fault === 'machine' &&
        entry.body.reason === 'signal' &&
        !seen.asks
      )
        fail('rejected twice, and no person is asked');
      break;
    case 'task.executed': {
      const { attempt, receipt } = entry.body;
      const open = seen.open.get(attempt);
      if (open?.role !== 'execute') throw fail('accepted for a lease that is not open (promise 10)');
      if (seen.accepted !== null) fail('a second accepted result (promise 10)');
      const lease = `${entry.body.task}.${attempt}.${open.epoch} by ${open.member}`;
      if (honest.get(receipt) !== lease)
        fail(`its receipt was made for ${honest.get(receipt)}, not ${lease} (promise 12)`);
      seen.open.delete(attempt);
      seen.accepted = { attempt, member: open.member, receipt };
      seen.acceptances += 1;
      break;
    }
    case 'task.verified': {
      const open = seen.open.get(entry.body.attempt);
      if (open?.role !== 'verify') throw fail('verified for a lease that is not open');
      if (entry.body.receipt !== seen.accepted?.receipt) fail('about another receipt');
      seen.open.delete(entry.body.attempt);
      seen.verified = entry.body;
      seen.verifier = open.member;
      const [one, two] = [owners.get(open.member), owners.get(seen.accepted!.member)];
      if (new Set(owners.values()).size > 1 && one !== undefined && one === two && !entry.body.sameOwner) {
        fail('same owner, and not said so');
      }
      break;
    }
    case 'task.converged': {
      seen.ended = true;
      const { body } = entry;
      if (seen.open.size > 0) fail('ended with a lease open');
      if (!body.verified && body.confidence > 0.3)
        fail(`unverified, and confident ${body.confidence} (promise 19)`);
      if (body.verified && seen.flaky) fail('verified by a flaky check');
      if (seen.accepted !== null && seen.doubted.has(seen.accepted.attempt) && body.confidence > 0.6)
        fail(`its model is not sure, and it is confident ${body.confidence}`);
      if (body.verified && (seen.verified?.passed !== true || seen.verifier === body.executor))
        fail('verified by nobody else');
      if (body.state === 'delivered' && seen.acceptances - seen.withdrawals !== 1) {
        fail(`delivered with ${seen.acceptances - seen.withdrawals} accepted results (promise 10)`);
      }
      if (body.state === 'failed' && body.reason === null) fail('failed without a reason (promise 16)');
    }
  }
}
