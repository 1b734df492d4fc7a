import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FrameChannel } from '../../../node/network/channel.ts';
import { acceptSessions } from '../../../node/network/founder-sessions.ts';
import { openSession } from '../../../node/network/member-session.ts';
import type { Session, SessionEnd } from '../../../node/network/session.ts';
import { frameOf } from '../../../protocol/frame.ts';
import { sessionCreditBytes, sessionQueueBytesMax } from '../../../protocol/limits.ts';
import { type FounderMessage, type MemberMessage, SESSION_PROTOCOL } from '../../../protocol/session.ts';
import { connect, hello, lease, MESH, type Net, Signal, welcome, withNet } from './hosts.ts';

const MiB = 2 ** 20;
const WITHIN_MS = 1_000;

/** Consumers that take a normal message and never finish with it, until told to go on. */
class Stall {
  readonly urgent = new Signal<{ type: string; sequence?: number }>();
  readonly ends = new Signal<SessionEnd>();
  normal = 0;
  #go: (() => void) | null = null;
  readonly #gate = new Promise<void>((resolve) => {
    this.#go = resolve;
  });

  readonly handlers = {
    onMessage: (message: FounderMessage | MemberMessage): void | Promise<void> => {
      if (message.type === 'progress' || message.type === 'settled') {
        this.normal += 1;
        return this.#gate;
      }
      this.urgent.put(message);
    },
    onClosed: (end: SessionEnd) => this.ends.put(end),
  };

  go(): void {
    this.#go?.();
  }
}

/** A founder and a member whose consumers both stand still. */
async function stalled(net: Net) {
  const { host, registry } = await net.founding();
  const [atFounder, atMember] = [new Stall(), new Stall()];
  const arrived = new Signal<Session<FounderMessage>>();
  await acceptSessions({
    registry,
    mesh: MESH,
    onSession: (session) => {
      session.send(welcome);
      arrived.put(session);
      return atFounder.handlers;
    },
  });
  const member = await net.member();
  const memberSide = await openSession(await connect(member, host), () => atMember.handlers);
  memberSide.send(hello());
  const founderSide = await arrived.next();
  assert.is((await atMember.urgent.next()).type, 'welcome');
  return { founderSide, memberSide, atFounder, atMember };
}

const settled: FounderMessage = { type: 'settled', ...lease(1), accepted: false, why: 'x'.repeat(1_000) };
const progress: MemberMessage = { type: 'progress', ...lease(1), phase: 'run', logBytes: 1 };

/** Queues normal messages up to `bytes` past the credit. */
function fill<M>(session: Session<M>, message: M, bytes: number): number {
  const size = JSON.stringify(message).length;
  const messages = Math.floor((sessionCreditBytes + bytes) / size);
  for (let n = 0; n < messages; n++) assert.ok(session.send(message));
  return messages;
}

test(
  'with every buffer full in both directions, heartbeats, cancel and pause pass within 1 s (promise 18)',
  withNet(async (net) => {
    const { founderSide, memberSide, atFounder, atMember } = await stalled(net);
    const toFounder = fill(memberSide, progress, 6 * MiB);
    const toMember = fill(founderSide, settled, 6 * MiB);
    const worst = { toFounder: 0, toMember: 0 };
    for (let sequence = 1; sequence <= 200; sequence++) {
      const began = performance.now();
      memberSide.send({ type: 'heartbeat', sequence });
      const beat = await atFounder.urgent.next(WITHIN_MS);
      assert.ok(beat.type === 'heartbeat' && beat.sequence === sequence);
      worst.toFounder = Math.max(worst.toFounder, performance.now() - began);
      const founderBegan = performance.now();
      const urgent: FounderMessage[] = [
        { type: 'beat', sequence, checkpoint: 'c'.repeat(300) },
        { type: 'cancel', ...lease(sequence), why: 'cancelled' },
        { type: 'pause' },
      ];
      for (const message of urgent) founderSide.send(message);
      for (const { type } of urgent) assert.is((await atMember.urgent.next(WITHIN_MS)).type, type);
      worst.toMember = Math.max(worst.toMember, performance.now() - founderBegan);
    }
    assert.ok(worst.toFounder < WITHIN_MS && worst.toMember < WITHIN_MS, JSON.stringify(worst));
    assert.equal(
      [atFounder.normal, atMember.normal],
      [1, 1],
      'both consumers still stand at their first message',
    );
    // And when they go on, nothing of what waited was lost.
    atFounder.go();
    atMember.go();
    memberSide.send({ type: 'heartbeat', sequence: 0 });
    while (atFounder.normal < toFounder || atMember.normal < toMember) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }),
);

for (const side of ['founder', 'member'] as const) {
  test(
    `a slow ${side} ends the other side's session at its bound, and memory stays bounded (promise 18)`,
    withNet(async (net) => {
      const { founderSide, memberSide, atFounder, atMember } = await stalled(net);
      const [sender, stall, message] =
        side === 'founder'
          ? [memberSide as Session<never>, atMember, progress]
          : [founderSide as Session<never>, atFounder, settled];
      globalThis.gc?.();
      const before = process.memoryUsage().rss;
      let sent = 0;
      while (sender.send(message as never)) sent += JSON.stringify(message).length;
      assert.is((await stall.ends.next()).code, 'SF_FULL');
      assert.ok(sent >= sessionQueueBytesMax - MiB && sent < sessionQueueBytesMax + 3 * MiB, `${sent} bytes`);
      const end = await (side === 'founder' ? atFounder : atMember).ends.next();
      assert.equal([end.code, end.by], ['SF_FULL', 'peer'], 'the slow side is told');
      const grown = process.memoryUsage().rss - before;
      assert.ok(grown < 150 * MiB, `${Math.round(grown / MiB)} MiB more`);
    }),
  );
}

test(
  'a member that floods past its credit is cut off in words, and memory stays bounded (promise 18)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const stall = new Stall();
    await acceptSessions({ registry, mesh: MESH, onSession: () => stall.handlers });
    const member = await net.member();
    const stream = await (await connect(member, host)).newStream(SESSION_PROTOCOL);
    const channel = new FrameChannel(stream);
    await channel.write(frameOf(hello()));
    const flood = frameOf(...Array.from({ length: 256 }, () => progress));
    const before = process.memoryUsage().rss;
    let wrote = 0;
    while (stream.status === 'open' && wrote < 256 * MiB) {
      try {
        await channel.write(flood, AbortSignal.timeout(5_000));
        wrote += flood.byteLength;
      } catch {
        break;
      }
    }
    const end = await stall.ends.next();
    assert.is(end.code, 'SF_FRAME');
    assert.match(end.message, /more than it was granted/);
    const words = Buffer.from((await channel.read().catch(() => null)) ?? []).toString();
    assert.match(words, /goodbye.*SF_FRAME|^$/);
    assert.ok(process.memoryUsage().rss - before < 150 * MiB);
  }),
);

test(
  'a member that takes no bytes off its socket costs the founder one bounded queue (promise 18)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const stall = new Stall();
    const arrived = new Signal<Session<FounderMessage>>();
    await acceptSessions({
      registry,
      mesh: MESH,
      limits: { writeMs: 500, goodbyeMs: 200, creditBytes: 64 * MiB },
      onSession: (session) => {
        arrived.put(session);
        return stall.handlers;
      },
    });
    const member = await net.member();
    const stream = await (await connect(member, host)).newStream(SESSION_PROTOCOL);
    await new FrameChannel(stream).write(frameOf(hello()));
    stream.pause();
    const session = await arrived.next();
    while (session.send(settled)) await new Promise((resolve) => setImmediate(resolve));
    const end = await stall.ends.next();
    assert.ok(end.code === 'SF_FULL' || end.code === 'SF_TIMEOUT', end.code);
    await session.closed;
  }),
);

test(
  'urgent messages jump ahead of normal ones that wait for a slow consumer',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const seen: string[] = [];
    const done = new Signal<null>();
    await acceptSessions({
      registry,
      mesh: MESH,
      onSession: () => ({
        onMessage: async (message) => {
          if (message.type === 'progress') await new Promise((resolve) => setTimeout(resolve, 20));
          seen.push(message.type);
          if (seen.length === 21) done.put(null);
        },
        onClosed: () => {},
      }),
    });
    const session = await openSession(await connect(await net.member(), host), () => ({
      onMessage: () => {},
      onClosed: () => {},
    }));
    session.send(hello());
    for (let n = 0; n < 20; n++) session.send(progress);
    session.send({ type: 'heartbeat', sequence: 1 });
    await done.next();
    assert.ok(seen.indexOf('heartbeat') <= 2, seen.join(' '));
  }),
);

test.run();
