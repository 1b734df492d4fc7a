import { findAttempt } from '../../../ledger/state/task-record.ts';
import {
  type Lease,
  leaseKey,
  type MemberHello,
  type MemberMessage,
  SESSION_VERSION,
} from '../../../protocol/session.ts';
import type { FailureReason, Fault } from '../../../protocol/task.ts';
import { attemptSlackMs, stoppingMax } from '../config.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import { endLease } from '../lifecycle.ts';
import { countAnew } from '../placement/spread.ts';
import { onResult } from '../results/results.ts';
import { countStop, endRest } from './back-off.ts';
import { challenge, clockOf, isElsewhere, refuseRival } from './identity.ts';
import { tellLenders } from './lenders.ts';
import type { LiveMember } from './live-member.ts';
import { evictDrained, leave } from './membership.ts';
import { noteGone, noteHolds } from './pause.ts';
import { suspend, workedMs } from './suspended.ts';

/** A member's hello: what it holds goes on where the lease is open, and what it does not hold is lost. */
export function onConnected(
  ctx: FounderContext,
  peer: string,
  session: number,
  hello: MemberHello,
  address: string | null,
): void {
  const refusal = refuseHello(ctx, peer, hello);
  if (refusal !== null) {
    ctx.emit({ type: 'close', after: 0, peer, session, ...refusal });
    return;
  }
  const live = ctx.liveMember(peer);
  if (isElsewhere(live, hello)) challenge(ctx, live, { session, hello, address });
  else welcome(ctx, live, session, hello, address);
}

function welcome(
  ctx: FounderContext,
  live: LiveMember,
  session: number,
  hello: MemberHello,
  address: string | null,
): void {
  const { peer } = live;
  if (live.session !== null && live.session !== session) {
    const elsewhere = isElsewhere(live, hello);
    const message = elsewhere
      ? 'this machine did not answer, and another one with its identity has come'
      : 'this member has opened a newer session';
    ctx.emit({
      type: 'close',
      after: 0,
      peer,
      session: live.session,
      code: 'SF_CONFLICT',
      message,
      disconnect: elsewhere,
    });
  }
  live.session = session;
  live.instance = hello.instance ?? null;
  live.address = address;
  clockOf(ctx, live, hello.time);
  live.heardAt = ctx.now;
  live.doubtful = false;
  live.features = hello.features;
  live.minor = hello.version.minor;
  live.capacity = hello.capacity;
  countAnew(ctx, live);
  live.stopping.clear();
  ctx.fleet += 1;
  const held = new Set(hello.held.map(leaseKey));
  noteHolds(ctx, live, held);
  const ready = new Set(hello.ready.map(leaseKey));
  const resume: Lease[] = [];
  const missing: LiveLease[] = [];
  for (const key of live.leases) {
    const lease = ctx.leases.get(key)!;
    const stopped = ctx.state.mesh.paused && held.has(key);
    if ((held.has(key) && !stopped) || ready.has(key)) {
      resume.push(lease.lease);
      lease.collects = 0;
      // Where its owner still keeps it from running, its member says so again.
      suspend(ctx, lease, false);
    } else missing.push(lease);
  }
  const { mesh } = ctx.state;
  ctx.send(peer, {
    type: 'welcome',
    version: SESSION_VERSION,
    features: [],
    mesh: ctx.mesh,
    epoch: ctx.epoch,
    heartbeatMs: ctx.config.heartbeatMs,
    leaseMs: ctx.config.leaseMs,
    paused: mesh.paused,
    resume,
    checkpoint: ctx.durable?.checkpoint ?? null,
    policy: mesh.policy ?? null,
  });
  // One that was away when the mesh changed hands, or its founder opened a new epoch, learns here by whose key it speaks.
  if (mesh.handovers.length > 0 && hello.version.minor >= 2) {
    ctx.send(peer, { type: 'handover', handovers: [...mesh.handovers], addresses: [] });
  }
  // Of many that come at once each fetches the roster that has all of them, and none before it.
  const { roster } = ctx;
  if (roster !== null && roster.version > hello.rosterVersion && roster.version >= ctx.memberSince) {
    ctx.send(peer, { type: 'roster', ...roster });
  }
  if (ctx.places.length > 0) ctx.tellReplicas(peer);
  if (ctx.lenders.list.length > 0) tellLenders(ctx, peer);
  const { name } = ctx.member(peer)!;
  // An older release does not say its name; that it was renamed is forgotten when the founder restarts.
  if (ctx.renamed.delete(peer) || (hello.name !== undefined && hello.name !== name)) {
    ctx.send(peer, { type: 'renamed', name });
  }
  for (const lease of missing) {
    // Paused between the two entries of a crash: what should have ended then ends now, and costs nothing.
    if (held.has(lease.key)) endLease(ctx, lease, { ...PAUSED, cancel: null });
    else lose(ctx, lease, 'the member came back without it', null);
  }
  // What it holds and was not told to go on with is being stopped there, and takes a slot until it is gone.
  for (const key of held) if (!live.leases.has(key)) live.stopping.set(key, ctx.now);
}

const PAUSED = { fault: 'person', reason: 'refused', detail: 'the mesh was paused' } as const;

function refuseHello(
  ctx: FounderContext,
  peer: string,
  hello: MemberHello,
): { code: string; message: string } | null {
  const record = ctx.state.members.byPeer.get(peer);
  if (record?.standing === 'revoked') return { code: 'SF_REVOKED', message: 'the membership was revoked' };
  if (record?.standing !== 'active') return { code: 'SF_REFUSED', message: 'this machine is no member' };
  if (hello.mesh !== ctx.mesh) {
    return { code: 'SF_REFUSED', message: `this founder serves mesh ${ctx.mesh}, not ${hello.mesh}` };
  }
  const { major, minor } = SESSION_VERSION;
  const { version } = hello;
  if (version.major !== major || Math.abs(version.minor - minor) > 1) {
    const spoken = `${version.major}.${version.minor}`;
    const message = `the member speaks session ${spoken}, the founder ${major}.${minor}: install the same release on both`;
    return { code: 'SF_VERSION', message };
  }
  return null;
}

/** Its leases wait a short grace for the member to come back (design §8). */
export function onDisconnected(ctx: FounderContext, peer: string, session: number): void {
  const live = ctx.live.get(peer);
  if (live?.rival?.session === session) live.rival = null;
  if (live === undefined || live.session !== session) return;
  live.session = null;
  live.awaitedUntil = ctx.now + ctx.config.graceMs;
  ctx.alarms.add(live.awaitedUntil);
  live.stopping.clear();
  ctx.fleet += 1;
  takeRival(ctx, live);
}

/** The other machine is believed: the older session has ended, or gave no answer in time. */
function takeRival(ctx: FounderContext, live: LiveMember): void {
  const { rival } = live;
  if (rival === null) return;
  live.rival = null;
  welcome(ctx, live, rival.session, rival.hello, rival.address);
}

export function onMessage(ctx: FounderContext, peer: string, session: number, message: MemberMessage): void {
  const live = ctx.live.get(peer);
  if (live === undefined || live.session !== session) return;
  // Any word renews its leases.
  live.heardAt = ctx.now;
  doubt(ctx, live, false);
  switch (message.type) {
    case 'heartbeat': {
      refuseRival(ctx, live);
      clockOf(ctx, live, message.time);
      const checkpoint = ctx.durable?.checkpoint ?? null;
      ctx.send(peer, { type: 'beat', sequence: message.sequence, checkpoint });
      break;
    }
    case 'capacity':
      live.capacity = message.capacity;
      countAnew(ctx, live);
      ctx.fleet += 1;
      break;
    case 'started':
      onStarted(ctx, live, message, message.correlation);
      break;
    case 'progress':
      onProgress(ctx, live, message);
      break;
    case 'result':
      noteGone(ctx, peer, leaseKey(message.result));
      onResult(ctx, peer, message.result);
      break;
    case 'stopped':
      onStopped(ctx, live, message);
      break;
    case 'leave':
      if (peer !== ctx.state.mesh.founder) leave(ctx, { kind: 'peer', peer }, { op: 'member.leave', peer });
      break;
    case 'hello':
    case 'grant':
    case 'goodbye':
      break;
    default:
      message satisfies never;
  }
}

type Progress = Extract<MemberMessage, { type: 'progress' }>;

function onProgress(ctx: FounderContext, live: LiveMember, message: Progress): void {
  const key = leaseKey(message);
  const lease = live.leases.has(key) ? ctx.leases.get(key) : undefined;
  if (lease === undefined) cancelUnknown(ctx, live, message, message.correlation);
  else {
    lease.phase = message.phase;
    suspend(ctx, lease, message.suspended === true);
    lease.usage = message.usage ?? lease.usage;
  }
}

function onStarted(ctx: FounderContext, live: LiveMember, of: Lease, correlation: string): void {
  const key = leaseKey(of);
  const lease = live.leases.has(key) ? ctx.leases.get(key) : undefined;
  if (lease === undefined) {
    cancelUnknown(ctx, live, of, correlation);
    return;
  }
  lease.startedAt ??= ctx.now;
  const attempt = findAttempt(ctx.task(lease.lease.task), lease.lease.attempt)!;
  if (attempt.startedAt === null && lease.of === null) ctx.starts.add(lease);
}

/** It works on a lease that is not open: it is told so once, and holds the slot until it is gone. */
function cancelUnknown(ctx: FounderContext, live: LiveMember, of: Lease, correlation: string): void {
  const key = leaseKey(of);
  if (live.stopping.has(key) || live.stopping.size >= 1024) return;
  live.stopping.set(key, ctx.now);
  const { task, attempt, epoch } = of;
  ctx.send(live.peer, { type: 'cancel', task, attempt, epoch, correlation, why: 'superseded' });
}

type Stopped = Extract<MemberMessage, { type: 'stopped' }>;

/** Whose doing it is that an attempt stopped by itself, by what the member says. */
const STOPPED: Record<Stopped['why'], { fault: Fault; reason: FailureReason; detail: string }> = {
  cancelled: { fault: 'machine', reason: 'lost', detail: 'the member stopped it' },
  lease: {
    fault: 'machine',
    reason: 'lost',
    detail: 'the member had no word from the founder for a whole lease',
  },
  unknown: { fault: 'machine', reason: 'lost', detail: 'the attempt vanished on the member' },
  refused: { fault: 'machine', reason: 'refused', detail: 'the member refused it' },
  paused: PAUSED,
  owner: { fault: 'person', reason: 'refused', detail: 'the owner of the machine stopped it' },
  shutdown: { fault: 'person', reason: 'refused', detail: 'the machine was stopped by a person' },
};

function onStopped(ctx: FounderContext, live: LiveMember, message: Stopped): void {
  const key = leaseKey(message);
  live.stopping.delete(key);
  noteGone(ctx, live.peer, key);
  if (message.why === 'owner' || message.why === 'shutdown') countStop(ctx, live);
  const lease = live.leases.has(key) ? ctx.leases.get(key) : undefined;
  if (lease === undefined) return;
  // A pause that this founder did not ask for is the member's own doing.
  const why = message.why === 'paused' && !ctx.state.mesh.paused ? 'refused' : message.why;
  const ending = STOPPED[why];
  endLease(ctx, lease, { ...ending, detail: message.detail ?? ending.detail, cancel: null });
}

/** Before the first step after a sleep: what a sleeping founder could not hear is no silence. */
export function wake(ctx: FounderContext, sleptMs: number): void {
  for (const lease of ctx.leases.values()) lease.assignedAt += sleptMs;
  for (const live of ctx.live.values()) {
    live.awaitedUntil += sleptMs;
    if (live.rival !== null) live.rival.until += sleptMs;
    live.heardAt += sleptMs;
  }
}

/** Ends the leases whose time is up. */
export function expire(ctx: FounderContext): void {
  const { now, config } = ctx;
  for (const lease of [...ctx.leases.values()]) {
    if (workedMs(ctx, lease) >= attemptMsMax(ctx, lease)) {
      lose(ctx, lease, 'the member gave no result in the time that the task has', 'superseded');
    }
  }
  for (const live of ctx.live.values()) {
    for (const [key, since] of live.stopping) if (now - since >= stoppingMax) live.stopping.delete(key);
    endRest(ctx, live);
    evictDrained(ctx, live);
    if (live.restsUntil !== null && now >= live.restsUntil) {
      live.restsUntil = null;
      ctx.fleet += 1;
    }
    if (live.rival !== null && now >= live.rival.until) takeRival(ctx, live);
    if (live.session === null) {
      if (now >= live.awaitedUntil)
        loseAll(ctx, live, 'the connection to the member closed and it did not come back');
      continue;
    }
    const idleMs = live.leases.size > 0 ? 0 : config.heartbeatIdleMs;
    const silent = now - Math.max(live.heardAt, live.leasedAt);
    doubt(ctx, live, silent >= 2 * config.heartbeatMs + idleMs);
    if (silent < config.leaseMs + idleMs) continue;
    const message = `nothing was heard from this member for ${Math.round(silent / 1000)} s`;
    loseAll(ctx, live, message);
    ctx.emit({
      type: 'close',
      after: 0,
      peer: live.peer,
      session: live.session,
      code: 'SF_TIMEOUT',
      message,
    });
    live.session = null;
    live.awaitedUntil = now;
    live.stopping.clear();
    ctx.fleet += 1;
  }
}

/** A member ends what takes too long; one that does not, and is heard all the same, holds a task no longer than this. */
function attemptMsMax(ctx: FounderContext, { role, lease }: LiveLease): number {
  const { schedule, spec } = ctx.task(lease.task);
  const { timeoutMs, checkTimeoutMs, checks } = spec;
  const runs = role === 'execute' || schedule?.replicas !== undefined;
  return attemptSlackMs + (runs ? timeoutMs : 0) + checks.length * checkTimeoutMs;
}

function doubt(ctx: FounderContext, live: LiveMember, doubtful: boolean): void {
  if (live.doubtful === doubtful) return;
  live.doubtful = doubtful;
  ctx.fleet += 1;
}

function loseAll(ctx: FounderContext, live: LiveMember, why: string): void {
  for (const key of [...live.leases]) lose(ctx, ctx.leases.get(key)!, why, 'superseded');
}

function lose(ctx: FounderContext, lease: LiveLease, detail: string, cancel: 'superseded' | null): void {
  endLease(ctx, lease, { fault: 'machine', reason: 'lost', detail, cancel });
}
