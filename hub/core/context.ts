import type { KnownEntry } from '../../ledger/lines/entry.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { type MadeEntry, makeEntry, type WrittenEvent } from '../../ledger/lines/line.ts';
import type { MemberRecord } from '../../ledger/state/members.ts';
import { applyEntry, type MeshState } from '../../ledger/state/state.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import type { Clock } from '../../node/core/types.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type {
  AttemptResult,
  AttemptRole,
  FounderMessage,
  Lease,
  MemberHello,
  Place,
} from '../../protocol/session.ts';
import type { FailureReason } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import { appendBytesMax, appendEventsMax, type FounderConfig } from './config.ts';
import { Alarms } from './due.ts';
import { Repeats } from './intake/repeats.ts';
import { Room } from './intake/room.ts';
import { Lenders } from './members/lenders.ts';
import { LiveMember } from './members/live-member.ts';
import type { Stopping } from './members/pause.ts';
import { Pool } from './placement/pool.ts';
import { type SpreadPlace, Spreads } from './placement/spread.ts';
import type { CorePlugin } from './plugin.ts';
import { Plugins } from './plugins.ts';
import { Deadlines } from './queue/deadlines.ts';
import { Holds } from './queue/holds.ts';
import { type Bucket, RunQueue } from './queue/queue.ts';
import { RetryBudget } from './queue/retry-budget.ts';
import type { EnvelopeChecks, ReceiptFacts, VerificationFacts } from './results/checks.ts';
import { Starts } from './results/starts.ts';
import { Reverifications } from './trust/reverify-set.ts';
import type { FounderEffect } from './types.ts';

/** Replicas that members are told of, and addresses of each. */
const PLACES_MAX = 16;

const NONE: ReadonlySet<string> = new Set();

/** A session that came from another machine than the one that is open. */
export interface Rival {
  session: number;
  hello: MemberHello;
  address: string | null;
  /** By then (monotonic ms) the older session has said that it lives, or is over. */
  until: number;
}

/** A result whose envelope was checked and whose blobs are being pulled. */
export type CheckedResult =
  | { role: 'execute'; result: AttemptResult; digest: string; facts: ReceiptFacts }
  | { role: 'verify'; result: AttemptResult; digest: string; facts: VerificationFacts };

/** An open lease: the log's attempt, and what only this process knows of it. */
export interface LiveLease {
  key: string;
  lease: Lease;
  role: AttemptRole;
  member: string;
  correlation: string;
  assignedAt: number;
  startedAt: number | null;
  /** What its member said last that it does; null: nothing yet. */
  phase: string | null;
  /** Since when its member's owner keeps it from running (monotonic); null: it runs. */
  suspendedAt: number | null;
  /** For how long it was kept so before, ms. */
  suspendedMs: number;
  /** What its member said last of what models were asked; null: nothing. */
  usage: Usage | null;
  pending: CheckedResult | null;
  /** A collect effect is out. */
  collecting: boolean;
  collects: number;
  /** When to ask for the blobs again. */
  collectAt: number | null;
  /** It verifies again what was delivered: the member in quarantine whose word that rests on; null: it does not. */
  of: string | null;
  /** Where it counts among attempts of its name; null: nowhere. */
  spread: SpreadPlace | null;
}

/** A late result whose envelope is being stored. */
export interface LateResult {
  peer: string;
  lease: Lease;
  role: AttemptRole;
  correlation: string;
  /** Of the receipt; null for a verification, whose subject may be gone. */
  digest: string | null;
}

/** A result that waits for a verifier. */
export interface Waiting {
  /** Since when none could be had; null: one is online. */
  aloneSince: number | null;
  /** The fleet in which that was so. */
  aloneIn: number;
  /** What the pool had told when all that may verify it were busy. @default not looked at yet */
  seen?: number;
  /** Not before; after a verifier failed. */
  retryAt: number;
}

/** How an open task ends that goes no further. */
export interface GivenUp {
  state: 'failed' | 'cancelled';
  reason: FailureReason | null;
  detail: string;
}

/** Monotonic times of an open task that this process saw; all null after a restart. */
export interface TaskTimes {
  queuedAt: number | null;
  firstAssignedAt: number | null;
  runMs: number | null;
}

/** What the parts of the founder core share: the replayed state, the live view, and the effects of this step. */
export class FounderContext {
  readonly mesh: string;
  readonly state: MeshState;
  readonly config: FounderConfig;
  readonly checks: EnvelopeChecks;
  readonly live = new Map<string, LiveMember>();
  readonly leases = new Map<string, LiveLease>();
  readonly late = new Map<string, LateResult>();
  /** Leases whose results came when their tasks had left the state, while these are being read from the log. */
  readonly recalling = new Set<string>();
  /** In the step that was handed them: tasks that have left the state, as the log tells of them. To be read only. */
  recalled: ReadonlyMap<string, TaskRecord> = new Map();
  readonly times = new Map<string, TaskTimes>();
  readonly pool = new Pool();
  readonly queue = new RunQueue(this.pool);
  readonly spreads = new Spreads();
  readonly starts = new Starts();
  /** Buckets to be looked at again at a time (monotonic ms), whatever happens until then. */
  readonly later = new Map<Bucket, number>();
  /** Urgent tasks for which another gave its place, which is not free yet. */
  readonly preempting = new Map<string, { member: string; key: string }>();
  readonly repeats = new Repeats();
  readonly room = new Room();
  readonly holds = new Holds();
  readonly deadlines = new Deadlines();
  /** Open tasks that are to end, once their leases have. */
  readonly givenUp = new Map<string, GivenUp>();
  readonly plugins: Plugins;
  /** When the core is to be ticked before the safety tick. */
  readonly alarms = new Alarms();
  /** Members told to stop by the pause, by peer, until they say that they have. */
  readonly pausing = new Map<string, Stopping>();
  /** Since when the bound of the mesh keeps a task from a free slot (monotonic); null: it does not. */
  heldSince: number | null = null;
  /** Queued tasks that wait for a person's answer; none of these is in the queue. */
  readonly asking = new Set<string>();
  /** Queued tasks that wait for other tasks; none of these is in the queue either. */
  readonly held = new Set<string>();
  /** Of these, the ones that wait for a person's word to a plugin. */
  readonly frozen = new Set<string>();
  readonly retries = new RetryBudget();
  /** Models that let down an attempt of an open task, as its member said. Of this process: it is a preference. */
  readonly failedModels = new Map<string, readonly string[]>();
  /** Executed tasks that wait for a verifier. */
  readonly unverified = new Map<string, Waiting>();
  /** Of these, the ones that nobody could verify when the fleet was `parkedIn`. */
  readonly parked = new Set<string>();
  parkedIn = 0;
  readonly again = new Reverifications();
  /** Rises when what members offer or may do changes; what fits nobody is looked at again only then. */
  fleet = 1;
  epoch: number;
  /** Values of secrets; never logged, never shown. */
  secrets: ReadonlyMap<string, string> = new Map();
  roster: { version: number; blob: string } | null = null;
  /** Size of the log when membership changed last: a roster of a smaller one will soon be followed by another. */
  memberSince = 0;
  durable: { index: number; checkpoint: string | null; root: string } | null = null;
  /** Leases of the epoch before may still run until then (monotonic); nothing is given before it. */
  settledAt: number;
  /** Entries that each replica which follows the log holds synced. */
  replicas: ReadonlyMap<string, number> = new Map();
  /** Of those that do not hold it from entry 0 on: from which on. */
  replicasFrom: ReadonlyMap<string, number> = new Map();
  /** Of these, the ones that are far behind: since when (monotonic). */
  readonly behindSince = new Map<string, number>();
  /** Blobs of the log that this founder, which took over, does not have. */
  lacking = 0;
  /** Where they listen. */
  places: readonly Place[] = [];
  /** Who lends models, as members were told last. */
  readonly lenders = new Lenders();
  clock: Clock;
  /** When this process began (monotonic). */
  startedAt = 0;
  /** Members whose name is not the one they know, and who have not been told. */
  readonly renamed = new Set<string>();
  /** Queued tasks whose last attempt failed for want of something on its machine. */
  readonly troubled = new Set<string>();
  readonly #given = new Set<string>();
  /** Rises when the operator gives a label that nobody had. */
  labelsVersion = 0;
  /** Rises with every entry about a member. */
  membersVersion = 0;
  /** How many owners the mesh had, by `membersVersion`. */
  owners = { in: -1, count: 0 };
  #effects: Exclude<FounderEffect, { type: 'append' }>[] = [];
  #made: MadeEntry[] = [];

  constructor(options: {
    mesh: string;
    state: MeshState;
    config: FounderConfig;
    checks: EnvelopeChecks;
    epoch: number;
    plugins: readonly CorePlugin[];
    clock: Clock;
  }) {
    this.mesh = options.mesh;
    this.state = options.state;
    this.config = options.config;
    this.checks = options.checks;
    this.epoch = options.epoch;
    this.plugins = new Plugins(options.plugins);
    this.clock = options.clock;
    for (const peer of options.state.members.byPeer.keys()) this.#noteMember(peer);
    this.settledAt =
      options.epoch > options.state.mesh.epoch ? options.clock.now + options.config.leaseMs : 0;
  }

  /**
   * Keys of labels that the operator ever gave to a member: this one does not give them to itself, also after that one
   * has gone. The founder's machine is the operator's: what it says of itself is the operator's word.
   */
  labelsGiven(peer: string): ReadonlySet<string> {
    return peer === this.state.mesh.founder ? NONE : this.#given;
  }

  /** Whether others lend this member a model; `*`: any. */
  lentTo(peer: string): (model: string) => boolean {
    return (model) => this.lenders.lendTo(peer, model);
  }

  get now(): number {
    return this.clock.now;
  }

  /** Index of the last entry decided on, durable or not. */
  get last(): number {
    return this.state.mesh.size - 1;
  }

  /** Decides on an entry: applies it at once, and appends it with the others of this step. */
  append(event: LogEvent | WrittenEvent): void {
    const { mesh } = this.state;
    // As a reader of the log will get it, and checked and written once: what does not fit its schema is a defect, and is not
    // decided on.
    const made = decided({ index: mesh.size, epoch: this.epoch, time: this.#time() }, event);
    const entry = made.entry as KnownEntry;
    applyEntry(this.state, entry, entry);
    if (entry.type.startsWith('member.')) this.#noteMember((entry.body as { peer: string }).peer);
    this.#made.push(made);
  }

  #noteMember(peer: string): void {
    this.membersVersion += 1;
    this.pool.changed(peer);
    for (const key of Object.keys(this.state.members.byPeer.get(peer)?.labels ?? {})) {
      if (this.#given.has(key)) continue;
      this.#given.add(key);
      this.labelsVersion += 1;
    }
  }

  /** One time for all entries of a step, never below the log's. */
  #time(): number {
    return Math.max(this.state.mesh.time, Math.floor(this.clock.time));
  }

  /** To the member's open session; where there is none, hello and welcome will bring both to one view. */
  send(peer: string, message: FounderMessage): void {
    const session = this.live.get(peer)?.session ?? null;
    if (session !== null) this.#effects.push({ type: 'send', after: 0, peer, session, message });
  }

  emit(effect: Exclude<FounderEffect, { type: 'append' }>): void {
    this.#effects.push(effect);
  }

  /** The effects of the step: what it appends first, all others to be released when it is durable. */
  take(): FounderEffect[] {
    const after = this.last;
    const outward = this.#effects;
    this.#effects = [];
    for (const effect of outward) if ('after' in effect) effect.after = after;
    const made = this.#made;
    this.#made = [];
    if (made.length === 0) return outward;
    const appends: FounderEffect[] = [];
    for (let at = 0; at < made.length; ) {
      const part = nextAppend(made, at);
      appends.push({ type: 'append', made: part });
      at += part.length;
    }
    return [...appends, ...outward];
  }

  /** Throws `SF_NOT_FOUND` for one that is neither in the state nor was recalled. */
  task(id: string): TaskRecord {
    const task = this.state.tasks.byId.get(id) ?? this.again.open.get(id) ?? this.recalled.get(id);
    if (task !== undefined) return task;
    throw new SuperfleetError('SF_NOT_FOUND', `there is no task ${id}`, { hint: 'mesh-hub task list' });
  }

  /** The record of an active member, or null. */
  member(peer: string): MemberRecord | null {
    const member = this.state.members.byPeer.get(peer);
    return member?.standing === 'active' ? member : null;
  }

  /** The member learns where replicas are, so that it finds the founder that one of them may become. */
  tellReplicas(peer: string): void {
    if ((this.live.get(peer)?.minor ?? 0) < 2) return;
    const others = this.places.filter((place) => place.peer !== peer).slice(0, PLACES_MAX);
    this.send(peer, {
      type: 'replicas',
      replicas: others.map((place) => ({
        peer: place.peer,
        addresses: place.addresses.slice(0, PLACES_MAX),
      })),
    });
  }

  /** The member learns its name: now, or with the next session. */
  tellName(peer: string): void {
    const name = this.member(peer)?.name;
    if (name === undefined) return;
    if ((this.live.get(peer)?.session ?? null) === null) this.renamed.add(peer);
    else this.send(peer, { type: 'renamed', name });
  }

  liveMember(peer: string): LiveMember {
    let live = this.live.get(peer);
    if (live === undefined) {
      live = new LiveMember(peer, this.now, this.pool);
      this.live.set(peer, live);
    }
    return live;
  }
}

/** From this entry on as many as one append may have. */
function nextAppend(made: readonly MadeEntry[], from: number): MadeEntry[] {
  let bytes = 0;
  let to = from;
  while (to < made.length && to - from < appendEventsMax) {
    bytes += made[to]!.length + 1;
    if (bytes > appendBytesMax) break;
    to += 1;
  }
  return made.slice(from, to);
}

/** No wrong request: whoever decides on an event has seen to its form. */
function decided(head: Parameters<typeof makeEntry>[0], event: LogEvent | WrittenEvent): MadeEntry {
  try {
    return makeEntry(head, event);
  } catch (cause) {
    throw new SuperfleetError('SF_INTERNAL', `a ${event.type} was decided on that is not of its form`, {
      cause,
    });
  }
}
