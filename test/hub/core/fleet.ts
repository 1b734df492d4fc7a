import { createHash } from 'node:crypto';
import type { Why } from '../../../hub/core/answers/why-answer.ts';
import { FounderCore, type FounderOptions, founderAdmitted } from '../../../hub/core/founder.ts';
import { EffectGate } from '../../../hub/core/gate.ts';
import type { ReceiptFacts } from '../../../hub/core/results/checks.ts';
import type {
  FounderEffect,
  FounderInput,
  HeldEffect,
  Operation,
  Submission,
} from '../../../hub/core/types.ts';
import type { Entry } from '../../../ledger/lines/entry.ts';
import type { Actor, LogEvent } from '../../../ledger/lines/events.ts';
import { defaultBounds, type StateBounds } from '../../../ledger/state/reducer.ts';
import { initialState, replay } from '../../../ledger/state/state.ts';
import { MemberCore } from '../../../node/core/member.ts';
import type { Clock, MemberEffect, MemberInput } from '../../../node/core/types.ts';
import { asSuperfleetError, SuperfleetError } from '../../../protocol/errors.ts';
import type { Role } from '../../../protocol/ids.ts';
import {
  type Assignment,
  type AttemptResult,
  type Capacity,
  type Lease,
  leaseKey,
  type MemberHello,
} from '../../../protocol/session.ts';
import { type TaskSpecInput, taskSpec } from '../../../protocol/task.ts';
import { recalledFrom } from '../../ledger/archived.ts';
import { standInChecks, standInReceipt, standInVerification } from '../../sim/signer.ts';

/** A mesh on one virtual clock for tests that lead it step by step: nothing is lost or late unless a test does it. */
export const MESH = 'ab'.repeat(32);
const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** A peer id of the right form for a test's member. */
export function peerOf(name: string): string {
  const digest = createHash('sha512').update(name).digest();
  return `12D3KooW${Array.from(digest.subarray(0, 44), (byte) => ALPHABET[byte % 58]).join('')}`;
}

export const hex = (text: string): string => createHash('sha256').update(text).digest('hex');
export const LOCAL: Actor = { kind: 'local', user: 'olga', claimed: true };

export const CAPACITY: Capacity = {
  slots: 2,
  sandbox: 'bubblewrap',
  limits: { memory: 'watched', processes: 'nproc', disk: 'watched' },
  memoryBytes: 8 * 2 ** 30,
  cpus: 4,
  diskFreeBytes: 2 ** 36,
  models: [],
  tools: {},
  labels: {},
  ownerPaused: false,
};

/** What a member that holds nothing says first. */
export const HELLO: MemberHello = {
  type: 'hello',
  version: { major: 1, minor: 1 },
  features: [],
  mesh: MESH,
  capacity: CAPACITY,
  held: [],
  ready: [],
  checkpoint: null,
  rosterVersion: 0,
};

export const REPOSITORY = { id: 'a'.repeat(40), name: 'app', ref: 'HEAD', base: 'f'.repeat(40) };
const BUNDLE = { commit: REPOSITORY.base, bundle: 'f'.repeat(64), prerequisites: [] };

export interface TestMember {
  name: string;
  peer: string;
  core: MemberCore;
  session: number | null;
  running: Map<string, Assignment>;
  effects: MemberEffect[];
}

type Collect = Extract<FounderEffect, { type: 'collect' }>;
type Recall = Extract<FounderEffect, { type: 'recall' }>;

export class Fleet {
  readonly entries: Entry[] = [];
  readonly members = new Map<string, TestMember>();
  readonly log: FounderEffect[] = [];
  core: FounderCore;
  gate = new EffectGate<HeldEffect>(-1);
  now = 1_000;
  wall = 1_700_000_000_000;
  /** Entries up to here are durable; null: each at once. */
  durableTo: number | null = null;
  /** Results are fetched at once unless a test holds them. */
  holdCollects: Extract<FounderEffect, { type: 'collect' }>[] | null = null;
  readonly #answers = new Map<number, Extract<FounderEffect, { type: 'answer' }>>();
  #request = 0;
  #session = 0;
  #random = 1;
  readonly #options: Partial<FounderOptions>;
  readonly #bounds: StateBounds;
  /** Tasks that have left the state are recalled at once unless a test holds that back. */
  holdRecalls: Recall[] | null = null;

  constructor(
    options: Partial<FounderOptions> = {},
    bounds: StateBounds = defaultBounds,
    founderRoles: Role[] = ['operator'],
  ) {
    this.#options = options;
    this.#bounds = bounds;
    this.append({
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
    this.append(
      founderAdmitted({
        peer: peerOf('founder'),
        name: 'founder',
        owner: 'olga',
        roles: founderRoles,
        labels: {},
      }),
    );
    this.core = this.#boot();
  }

  clock = (): Clock => ({
    now: this.now,
    time: this.wall,
    random: (length) =>
      Uint8Array.from({ length }, () => {
        this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0;
        return this.#random >>> 24;
      }),
  });

  /** Puts an entry into the log before the founder starts. */
  append(event: LogEvent): void {
    this.entries.push({ index: this.entries.length, epoch: 1, time: this.wall, ...event });
  }

  #boot(): FounderCore {
    const state = replay(structuredClone(this.entries), initialState(this.#bounds));
    return new FounderCore({ mesh: MESH, state, checks: standInChecks, ...this.#options }, this.clock());
  }

  /** The founder dies and starts from its log; what was held back is gone, every session with it. */
  restart(keep: number = this.entries.length): void {
    this.entries.length = keep;
    this.gate = new EffectGate(keep - 1);
    this.core = this.#boot();
    for (const member of this.members.values()) this.disconnect(member, false);
  }

  /** Adds a member and connects it. */
  join(
    name: string,
    options: { owner?: string; roles?: Role[]; labels?: Record<string, string>; peer?: string } = {},
  ): TestMember {
    const { peer = peerOf(name) } = options;
    const { owner = 'olga', roles = ['worker'], labels = {} } = options;
    const invite = hex(`invite ${name}`);
    const expiresAt = this.wall + 1e6;
    const body = { invite, expiresAt, uses: 1, roles, labels, owner, by: LOCAL };
    this.ask({ op: 'invite.create', invite: body });
    this.ask({ op: 'member.admit', peer, name, owner, via: { kind: 'invite', secretHash: invite } });
    const restored = {
      mesh: MESH,
      capacity: CAPACITY,
      ready: [],
      ownerPaused: false,
      checkpoint: null,
      rosterVersion: 0,
    };
    const core = new MemberCore(restored, this.clock());
    const member: TestMember = { name, peer, core, session: null, running: new Map(), effects: [] };
    this.members.set(peer, member);
    this.connect(member);
    return member;
  }

  connect(member: TestMember): void {
    this.#session += 1;
    member.session = this.#session;
    this.member(member, { type: 'connected', session: this.#session });
  }

  /** `tell` false: the founder does not see it. */
  disconnect(member: TestMember, tell = true): void {
    const { session } = member;
    if (session === null) return;
    member.session = null;
    this.member(member, { type: 'disconnected', session });
    if (tell) this.founder({ type: 'disconnected', peer: member.peer, session });
  }

  /** An operation by the operator; throws what the founder refuses. */
  ask<T = Record<string, unknown>>(operation: Operation, by: Actor = LOCAL): T {
    this.#request += 1;
    const request = this.#request;
    this.founder({ type: 'request', request, by, operation });
    const answer = this.#answers.get(request);
    if (answer === undefined) throw new Error('the answer is held back');
    if (answer.error !== null) {
      const { code, message, ...detail } = answer.error;
      throw new SuperfleetError(code, message, detail);
    }
    return answer.result as T;
  }

  /** Submits and returns the task's id; the repository is `REPOSITORY` where nothing else is said. */
  submit(
    spec: Partial<TaskSpecInput> = {},
    asked: Omit<Submission, 'spec' | 'bundle' | 'correlation'> = {},
    by: Actor = LOCAL,
  ): string {
    const whole = taskSpec.parse({
      ...(spec.kind === 'code' ? {} : { kind: 'command', argv: ['true'] }),
      checks: ['true'],
      repository: REPOSITORY,
      ...spec,
    });
    const bundle = whole.repository?.base === REPOSITORY.base ? BUNDLE : null;
    return this.ask<{ id: string }>(
      { op: 'task.submit', spec: whole, bundle, correlation: null, ...asked },
      by,
    ).id;
  }

  task(id: string) {
    return this.core.state.tasks.byId.get(id)!;
  }

  /** Codes of an operation that is refused. */
  refusal(operation: Operation, by: Actor = LOCAL): string {
    try {
      this.ask(operation, by);
    } catch (error) {
      return asSuperfleetError(error).code;
    }
    return 'accepted';
  }

  founder(...inputs: FounderInput[]): void {
    const outward: HeldEffect[] = [];
    const collects: Collect[] = [];
    for (const effect of this.core.stepAll(inputs, this.clock())) {
      this.log.push(effect);
      if (effect.type === 'collect') collects.push(effect);
      else if (effect.type !== 'append') outward.push(effect);
      else {
        for (const { line } of effect.made) {
          const entry = JSON.parse(line) as Entry;
          if (entry.index !== this.entries.length)
            throw new Error(`append at ${entry.index}, not ${this.entries.length}`);
          this.entries.push(entry);
        }
      }
    }
    this.gate.hold(outward);
    this.flush();
    for (const effect of collects) {
      if (this.holdCollects !== null) this.holdCollects.push(effect);
      else this.collected(effect);
    }
  }

  /** Makes durable what may be, and lets effects go. */
  flush(): void {
    this.gate.durable(this.durableTo ?? this.entries.length - 1);
    for (const effect of this.gate.release()) this.#perform(effect);
  }

  #perform(effect: HeldEffect): void {
    switch (effect.type) {
      case 'answer':
        this.#answers.set(effect.request, effect);
        break;
      case 'send': {
        const member = this.members.get(effect.peer);
        if (member === undefined || member.session !== effect.session) break;
        this.member(member, {
          type: 'received',
          session: effect.session,
          message: structuredClone(effect.message),
        });
        break;
      }
      case 'close': {
        const member = this.members.get(effect.peer);
        if (member === undefined || member.session !== effect.session) break;
        const { code, message } = effect;
        this.member(member, {
          type: 'received',
          session: effect.session,
          message: { type: 'goodbye', code, message },
        });
        if (member.session === effect.session) this.disconnect(member);
        break;
      }
      case 'recall':
        if (this.holdRecalls !== null) this.holdRecalls.push(effect);
        else this.recalled(effect);
        break;
      case 'membership':
        break;
    }
  }

  /** The log as it is when the effect was released. */
  recalled({ wanted, purpose }: Recall): void {
    const found = structuredClone(recalledFrom(structuredClone(this.entries), wanted));
    this.founder({ type: 'recalled', purpose, found, error: null });
  }

  collected(effect: Extract<FounderEffect, { type: 'collect' }>): void {
    const envelopeBlob = effect.envelope === null ? null : hex(effect.envelope);
    this.founder({ type: 'collected', peer: effect.peer, lease: effect.lease, envelopeBlob, failure: null });
  }

  member(member: TestMember, input: MemberInput): void {
    for (const effect of member.core.step(input, this.clock())) {
      member.effects.push(effect);
      switch (effect.type) {
        case 'send': {
          const { message, session } = effect;
          if (member.session !== session) break;
          const { peer } = member;
          if (message.type === 'hello') this.founder({ type: 'connected', peer, session, hello: message });
          else this.founder({ type: 'received', peer, session, message: structuredClone(message) });
          break;
        }
        case 'start':
          member.running.set(leaseKey(effect.assignment), effect.assignment);
          break;
        case 'close':
          if (member.session === effect.session) member.session = null;
          this.founder({ type: 'disconnected', peer: member.peer, session: effect.session });
          break;
        default:
      }
    }
  }

  /** What a member runs now; exactly one unless the test says which. */
  running(member: TestMember, role: 'execute' | 'verify' = 'execute'): Assignment {
    const found = [...member.running.values()].find((one) => one.role === role);
    if (found === undefined) throw new Error(`${member.name} runs nothing to ${role}`);
    return found;
  }

  start(member: TestMember, assignment: Assignment): void {
    const { task, attempt, epoch } = assignment;
    this.member(member, { type: 'started', lease: { task, attempt, epoch } });
  }

  /** The executor or verifier comes to its end, well unless said otherwise. */
  finish(
    member: TestMember,
    assignment: Assignment,
    change: Partial<AttemptResult> = {},
    passed = true,
  ): AttemptResult {
    member.running.delete(leaseKey(assignment));
    const result = resultOf(member.peer, assignment, change, passed);
    this.member(member, { type: 'finished', result });
    return result;
  }

  gone(member: TestMember, lease: Lease): void {
    member.running.delete(leaseKey(lease));
    const { task, attempt, epoch } = lease;
    this.member(member, { type: 'gone', lease: { task, attempt, epoch } });
  }

  /** Time passes: both cores are ticked as their drivers would, and members heard unless they are cut off. */
  advance(ms: number, stepMs = 250): void {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.now += stepMs;
      this.wall += stepMs;
      for (const member of this.members.values()) this.member(member, { type: 'tick' });
      this.founder({ type: 'tick' });
    }
  }

  why(id: string) {
    return this.ask<Why>({ op: 'task.why', task: id });
  }
}

/** A signed result of an assignment, by the stand-in. */
export function resultOf(
  peer: string,
  assignment: Assignment,
  change: Partial<AttemptResult> = {},
  passed = true,
  checksChanged: string[] = [],
  work: ReceiptFacts['work'] = null,
): AttemptResult {
  const { task, attempt, epoch, role, correlation } = assignment;
  const executes = role === 'execute';
  const base: AttemptResult = {
    task,
    attempt,
    epoch,
    role,
    correlation,
    outcome: 'succeeded',
    reason: null,
    fault: null,
    detail: null,
    exitCode: executes ? 0 : null,
    commit: executes ? hex(`commit ${task} ${attempt}`).slice(0, 40) : null,
    bundle: executes ? { blob: hex(`b${task}`), bytes: 10, sha256: hex('x') } : null,
    log: { blob: hex(`l${task}`), bytes: 5, sha256: hex('y') },
    artifacts: [],
    envelope: null,
    ...change,
  };
  if ('envelope' in change) return base;
  const envelope = executes
    ? standInReceipt(MESH, peer, assignment, base, checksChanged, work)
    : standInVerification(MESH, peer, assignment, passed, passed ? null : 'a check was red');
  return { ...base, envelope };
}
