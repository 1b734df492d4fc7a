import type { Entry, KnownEntry } from '../../ledger/lines/entry.ts';
import type { EventBody } from '../../ledger/lines/events.ts';
import { knownEntry } from '../../ledger/state/state.ts';
import { OrderChecker } from './order.ts';
import { Violation } from './violation.ts';

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
  /** The number of the newest attempt. */
  newest: number;
  /** A model waits for a person. */
  asks: boolean;
  /** Models that refused it. */
  rejections: number;
  /** Attempts whose model was not sure. */
  doubted: Set<number>;
  flaky: boolean;
  /** Attempts whose results were drawn, by whether they are to be verified. */
  lots: Map<number, boolean>;
}

/** What is verified again after it was delivered. */
interface Again {
  executor: string;
  receipt: string;
  newest: number;
  open: (Open & { of: string }) | null;
}

/** Delivered results verified again at one time. */
const againMax = 2;

/**
 * What the log may say, told a second time and more simply than the reducers: promises 10, 12, 15 and 19. It takes the
 * entries one by one as they become durable, and keeps of a task that ended its id, its late results, and
 * of one that was delivered what verifying it again is held against.
 */
export class LogChecker {
  /** The receipts and verifications that were truly made, by digest, with the lease they were made for. */
  readonly #honest: ReadonlyMap<string, string>;
  readonly #tasks = new Map<string, Seen>();
  readonly #ended = new Set<string>();
  /** Delivered tasks that were, or are being, verified again: who may not, the newest attempt, and its open lease. */
  readonly #again = new Map<string, Again>();
  /** Leases of ended tasks of which a late result is kept. */
  readonly #late = new Set<string>();
  readonly #parts = new Map<string, Set<string>>();
  /** Owners of members, and of all who ever were. */
  readonly #owners = new Map<string, string>();
  readonly #machinesOf = new Map<string, number>();
  readonly #everOwned = new Map<string, string>();
  readonly #quarantined = new Set<string>();
  readonly #nonces = new Set<string>();
  readonly #order = new OrderChecker();
  #paused = false;
  #next = 0;

  constructor(honest: ReadonlyMap<string, string>) {
    this.#honest = honest;
  }

  /** Entries taken. */
  get size(): number {
    return this.#next;
  }

  /** Whether it took the submission of this task. */
  knows(task: string): boolean {
    return this.#tasks.has(task) || this.#ended.has(task);
  }

  /** Whether it took the entry that gave out this nonce. */
  gave(nonce: string): boolean {
    return this.#nonces.has(nonce);
  }

  take(raw: Entry): void {
    if (raw.index !== this.#next) throw new Violation('log', `entry ${raw.index} comes after ${this.#next}`);
    this.#next += 1;
    const entry = knownEntry(raw);
    if (entry === null) return;
    this.#order.take(entry);
    switch (entry.type) {
      case 'mesh.paused':
        this.#paused = true;
        break;
      case 'mesh.resumed':
        this.#paused = false;
        break;
      case 'member.admitted':
        this.#own(entry.body.peer, entry.body.owner);
        this.#everOwned.set(entry.body.peer, entry.body.owner);
        break;
      case 'member.revoked':
      case 'member.left':
        this.#own(entry.body.peer, null);
        break;
      case 'member.quarantined':
        this.#quarantined.add(entry.body.peer);
        // It names the task that shows it, which may have ended by it.
        return;
      case 'member.trusted':
        this.#quarantined.delete(entry.body.peer);
        break;
      case 'attempt.assigned':
        if (this.#quarantined.has(entry.body.member))
          fail(entry, '19 unverified', 'given to a machine in quarantine');
        if (this.#paused) fail(entry, '15 stops', 'given out while the mesh is paused');
        if (!this.#owners.has(entry.body.member))
          fail(entry, '12 proofs', 'given to a machine that is no member');
        break;
      case 'task.submitted':
        this.#submitted(entry);
        return;
    }
    if ('task' in entry.body) this.#task(entry, entry.body.task);
  }

  /** Null: it is no member any more. */
  #own(peer: string, owner: string | null): void {
    const before = this.#owners.get(peer);
    if (before !== undefined) {
      const left = (this.#machinesOf.get(before) ?? 0) - 1;
      if (left > 0) this.#machinesOf.set(before, left);
      else this.#machinesOf.delete(before);
    }
    if (owner === null) this.#owners.delete(peer);
    else {
      this.#owners.set(peer, owner);
      this.#machinesOf.set(owner, (this.#machinesOf.get(owner) ?? 0) + 1);
    }
  }

  #submitted(entry: Of<'task.submitted'>): void {
    const { task, continues } = entry.body;
    if (continues !== undefined && !this.#parts.get(continues.task)?.has(continues.commit))
      fail(entry, '12 proofs', 'goes on from a part that is nowhere');
    if (this.#tasks.has(task) || this.#ended.has(task)) fail(entry, '10 one result', 'submitted twice');
    this.#tasks.set(task, {
      open: new Map(),
      newest: 0,
      accepted: null,
      acceptances: 0,
      withdrawals: 0,
      verified: null,
      verifier: null,
      evidence: new Set(),
      asks: false,
      rejections: 0,
      doubted: new Set(),
      flaky: false,
      lots: new Map(),
    });
  }

  #task(entry: KnownEntry, id: string): void {
    const seen = this.#tasks.get(id);
    if (entry.type === 'task.evidence') {
      const { attempt } = entry.body;
      const twice = seen === undefined ? this.#late.has(`${id}.${attempt}`) : seen.evidence.has(attempt);
      if (twice) fail(entry, '10 one result', 'a second late result of one attempt');
      if (seen === undefined) this.#late.add(`${id}.${attempt}`);
      else seen.evidence.add(attempt);
    } else if (entry.type === 'task.applied') return;
    else if (AGAIN.has(entry.type)) this.#verifiedAgain(entry, id);
    else if (this.#ended.has(id)) fail(entry, '10 one result', 'after its task ended');
    else if (seen === undefined) fail(entry, '16 nothing lost', 'of a task that was not submitted');
    else this.#open(seen, entry);
  }

  #verifiedAgain(entry: KnownEntry, id: string): void {
    const again = this.#again.get(id);
    if (again === undefined) throw fail(entry, '19 unverified', 'of a task that was not delivered');
    const { open } = again;
    if (entry.type === 'reverification.assigned') {
      const { attempt, member, of, nonce } = entry.body;
      this.#nonces.add(nonce);
      if (this.#paused) fail(entry, '15 stops', 'given out while the mesh is paused');
      if (open !== null) fail(entry, '10 one result', 'two leases to verify it again at one time');
      if (attempt <= again.newest) fail(entry, '10 one result', `the number ${attempt} was given out before`);
      if (!this.#quarantined.has(of))
        fail(entry, '19 unverified', 'verified again, and nobody is in quarantine');
      if (this.#quarantined.has(member) || !this.#owners.has(member) || member === again.executor)
        fail(entry, '19 unverified', 'verified again by one who may not');
      const [one, two] = [this.#owners.get(member), this.#everOwned.get(again.executor)];
      if (this.#machinesOf.size > 1 && one === two)
        fail(entry, '19 unverified', 'verified again by a machine of its executor’s owner');
      again.newest = attempt;
      again.open = { number: attempt, role: 'verify', member, epoch: entry.epoch, of };
      let now = 0;
      for (const other of this.#again.values()) if (other.open !== null) now += 1;
      if (now > againMax) fail(entry, '18 bounds', `${now} results are verified again at one time`);
    } else if (entry.type === 'reverification.ended') {
      if (open?.number !== entry.body.attempt) fail(entry, '10 one result', 'of a lease that is not open');
      again.open = null;
    } else if (entry.type === 'task.reverified') {
      const { attempt, by, of, receipt, verification, outcome } = entry.body;
      if (receipt !== again.receipt) fail(entry, '12 proofs', 'about another receipt');
      if ((outcome === 'unavailable') !== (by === null)) fail(entry, '19 unverified', 'a word of nobody');
      if (attempt === null || verification === null) return;
      if (open === null || open.number !== attempt || open.member !== by || open.of !== of)
        throw fail(entry, '19 unverified', 'verified again for a lease that is not open');
      this.#proved(entry, verification, `${id}.${attempt}.${open.epoch} by ${open.member}`);
      again.open = null;
    }
  }

  #open(seen: Seen, entry: KnownEntry): void {
    switch (entry.type) {
      case 'attempt.assigned':
        this.#assigned(seen, entry);
        break;
      case 'task.asked':
        if (seen.asks || seen.open.get(entry.body.attempt)?.role !== 'execute')
          fail(entry, '16 nothing lost', 'asks out of turn');
        seen.asks = true;
        break;
      case 'task.answered':
        if (!seen.asks) fail(entry, '16 nothing lost', 'answered, and nothing was asked');
        seen.asks = false;
        break;
      case 'task.rejected':
        seen.rejections += 1;
        break;
      case 'task.doubted':
        seen.doubted.add(entry.body.attempt);
        break;
      case 'task.sampled': {
        const { attempt, verify } = entry.body;
        if (seen.accepted?.attempt !== attempt)
          fail(entry, '19 unverified', 'drawn for a result that is not accepted');
        if (seen.lots.has(attempt)) fail(entry, '19 unverified', 'drawn twice');
        seen.lots.set(attempt, verify);
        break;
      }
      case 'task.flaky':
        seen.flaky = true;
        break;
      case 'task.partial': {
        const { task, commit } = entry.body;
        this.#parts.set(task, (this.#parts.get(task) ?? new Set()).add(commit));
        break;
      }
      case 'attempt.ended':
        this.#attemptEnded(seen, entry);
        break;
      case 'task.executed':
        this.#executed(seen, entry);
        break;
      case 'task.verified':
        this.#verified(seen, entry);
        break;
      case 'task.replicated': {
        const { task, attempt, receipt, verification } = entry.body;
        const open = seen.open.get(attempt);
        if (open?.role !== 'verify')
          throw fail(entry, '19 unverified', 'the word of a lease that is not open');
        if (receipt !== seen.accepted?.receipt) throw fail(entry, '12 proofs', 'about another receipt');
        this.#proved(entry, verification, `${task}.${attempt}.${open.epoch} by ${open.member}`);
        seen.open.delete(attempt);
        break;
      }
      case 'task.converged':
        this.#converged(seen, entry);
    }
  }

  #assigned(seen: Seen, entry: Of<'attempt.assigned'>): void {
    const { attempt, role, member, nonce } = entry.body;
    this.#nonces.add(nonce);
    for (const open of seen.open.values())
      if (open.role === role) fail(entry, '10 one result', `two leases to ${role} at one time`);
    if (attempt <= seen.newest) fail(entry, '10 one result', `the number ${attempt} was given out before`);
    if (role === 'verify' && seen.accepted !== null) {
      const executor = seen.accepted.member;
      if (member === executor) fail(entry, '19 unverified', 'verified by its executor');
      if (seen.lots.get(seen.accepted.attempt) === false)
        fail(entry, '19 unverified', 'verified, and the lot said that it is not');
      const several = this.#machinesOf.size > 1;
      if (several && this.#owners.get(member) === this.#everOwned.get(executor))
        fail(entry, '19 unverified', 'verified by a machine of its executor’s owner');
    }
    if (role === 'execute' && seen.asks)
      fail(entry, '16 nothing lost', 'given out while it waits for a person');
    seen.newest = attempt;
    seen.open.set(attempt, { number: attempt, role, member, epoch: entry.epoch });
  }

  #attemptEnded(seen: Seen, entry: Of<'attempt.ended'>): void {
    const { attempt, fault, reason } = entry.body;
    if (seen.accepted?.attempt === attempt) {
      if (seen.verified?.passed !== false)
        fail(entry, '10 one result', 'an accepted result is withdrawn without a word against it');
      seen.accepted = null;
      seen.verified = null;
      seen.withdrawals += 1;
    } else if (!seen.open.delete(attempt)) fail(entry, '10 one result', 'of a lease that is not open');
    if (seen.rejections > 1 && fault === 'machine' && reason === 'signal' && !seen.asks)
      fail(entry, '16 nothing lost', 'rejected twice, and no person is asked');
  }

  #executed(seen: Seen, entry: Of<'task.executed'>): void {
    const { attempt, receipt } = entry.body;
    const open = seen.open.get(attempt);
    if (open?.role !== 'execute') throw fail(entry, '10 one result', 'accepted for a lease that is not open');
    if (seen.accepted !== null) fail(entry, '10 one result', 'a second accepted result');
    this.#proved(entry, receipt, `${entry.body.task}.${attempt}.${open.epoch} by ${open.member}`);
    seen.open.delete(attempt);
    seen.accepted = { attempt, member: open.member, receipt };
    seen.acceptances += 1;
  }

  #proved(entry: KnownEntry, digest: string, lease: string): void {
    const made = this.#honest.get(digest);
    if (made !== lease) fail(entry, '12 proofs', `what was signed was made for ${made}, not ${lease}`);
  }

  #verified(seen: Seen, entry: Of<'task.verified'>): void {
    const { task, attempt, receipt, verification, sameOwner } = entry.body;
    const open = seen.open.get(attempt);
    if (open?.role !== 'verify') throw fail(entry, '19 unverified', 'verified for a lease that is not open');
    if (receipt !== seen.accepted?.receipt) throw fail(entry, '12 proofs', 'about another receipt');
    this.#proved(entry, verification, `${task}.${attempt}.${open.epoch} by ${open.member}`);
    seen.open.delete(attempt);
    seen.verified = entry.body;
    seen.verifier = open.member;
    const [one, two] = [this.#owners.get(open.member), this.#owners.get(seen.accepted.member)];
    if (this.#machinesOf.size > 1 && one !== undefined && one === two && !sameOwner)
      fail(entry, '19 unverified', 'same owner, and not said so');
  }

  #converged(seen: Seen, entry: Of<'task.converged'>): void {
    const { body } = entry;
    if (this.#paused && body.state === 'delivered')
      fail(entry, '15 stops', 'delivered while the mesh is paused');
    this.#tasks.delete(body.task);
    this.#ended.add(body.task);
    if (body.state === 'delivered' && seen.accepted !== null) {
      const { member: executor, receipt } = seen.accepted;
      this.#again.set(body.task, { executor, receipt, newest: seen.newest, open: null });
    }
    for (const attempt of seen.evidence) this.#late.add(`${body.task}.${attempt}`);
    if (seen.open.size > 0) fail(entry, '10 one result', 'ended with a lease open');
    if (!body.verified && body.confidence > 0.3)
      fail(entry, '19 unverified', `unverified, and confident ${body.confidence}`);
    if (body.verified && seen.flaky) fail(entry, '19 unverified', 'verified by a flaky check');
    if (seen.accepted !== null && seen.doubted.has(seen.accepted.attempt) && body.confidence > 0.6)
      fail(entry, '19 unverified', `its model is not sure, and it is confident ${body.confidence}`);
    if (body.verified && (seen.verified?.passed !== true || seen.verifier === body.executor))
      fail(entry, '19 unverified', 'verified by nobody else');
    if (body.state === 'delivered' && seen.verified?.passed === false && !seen.flaky)
      fail(entry, '19 unverified', 'delivered against the word of its verifier');
    const results = seen.acceptances - seen.withdrawals;
    if (body.state === 'delivered' && results !== 1)
      fail(entry, '10 one result', `delivered with ${results} accepted results`);
    if (body.state === 'failed' && body.reason === null)
      fail(entry, '16 nothing lost', 'failed without a reason');
  }
}

const AGAIN: ReadonlySet<string> = new Set([
  'reverification.assigned',
  'reverification.ended',
  'task.reverified',
]);

type Of<T extends KnownEntry['type']> = Extract<KnownEntry, { type: T }>;

function fail(entry: KnownEntry, checker: string, why: string): never {
  throw new Violation(checker, `entry ${entry.index} (${entry.type}): ${why}`);
}
