import { createHash, hash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { EventBody } from '../../../ledger/lines/events.ts';
import type { Log } from '../../../ledger/log/log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import { verifyLog } from '../../../ledger/log/verify.ts';
import { makeSnapshot } from '../../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore } from '../../../ledger/snapshots/snapshot-store.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import type { Host } from '../../../node/network/host.ts';
import { Neighbours } from '../../../node/network/neighbours.ts';
import { Replica, type ReplicaOptions } from '../../../node/replica/replica.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import {
  LOG_PROTOCOL,
  type LogWord,
  logDataHead,
  logWords,
  openLogFrame,
} from '../../../protocol/log-sync.ts';
import { newLog } from '../../ledger/kit.ts';
import { afterCrash, type MemoryCopy, memoryCopy } from '../../ledger/memory-beginning.ts';
import { Signal, withNet } from '../network/hosts.ts';
import { append, serve, TIME, untilHeld } from './served.ts';

interface Made {
  log: Log;
  storage: MemoryStorage;
  snapshots: MemorySnapshotStore;
  /** Entries under the snapshot. */
  size: number;
  body: EventBody<'log.snapshot'>;
}

/** A log with a snapshot; `named` appends the entry that says so. */
async function made(entries = 1_000): Promise<Made> {
  const storage = new MemoryStorage();
  const snapshots = new MemorySnapshotStore();
  const log = await newLog(storage, { segmentBytes: 40_000 });
  await append(log, 0, entries);
  const { size, meshId: mesh } = log;
  const body = await makeSnapshot({ storage, store: snapshots, mesh, size });
  return { log, storage, snapshots, size, body };
}

const name = async ({ log, body }: Made): Promise<void> => {
  await log.append([{ type: 'log.snapshot', body }], TIME, 1).durable;
};

/** A replica over this copy, and what it says. */
async function replica(
  host: Host,
  from: Host,
  mesh: string,
  copy: MemoryCopy,
  more: Partial<ReplicaOptions> = {},
) {
  const froms = new Signal<number>();
  const faults = new Signal<SuperfleetError>();
  const told: SuperfleetError[] = [];
  const made = await Replica.open({
    host,
    mesh,
    storage: copy.storage,
    beginning: copy.beginning,
    neighbours: new Neighbours(host, () => true),
    founder: () => ({ peer: from.peer, addresses: from.addresses() }),
    replicas: () => [],
    onFrom: (first) => froms.put(first),
    onFault: (error) => {
      told.push(error);
      faults.put(error);
    },
    ...more,
  });
  return { replica: made, froms, faults, told };
}

test(
  'a replica that holds nothing begins at a snapshot, follows from there at once, and fetches the rest (promise 6)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made();
    const { log, snapshots, size } = source;
    await name(source);
    await append(log, 1_000, 100);
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const member = await net.member();
    const copy = memoryCopy();
    const whole: number[] = [];
    const { replica: one, froms, told } = await replica(member, host, log.meshId, copy);
    one.onWhole((held) => whole.push(held.first));
    one.start();
    assert.is(
      (await untilHeld(held, member.peer, log.size)).from,
      size,
      'its source knows from where on it holds the log',
    );
    assert.is(await froms.next(), size);
    assert.is(one.isStateProved, true, 'the log named the state');
    assert.is(one.state.secrets.size, 1_100);
    assert.is(await froms.next(), 0);
    assert.equal([one.status.from, one.copy!.first, whole], [0, 0, [0]]);
    await append(log, 1_100, 50);
    assert.is((await untilHeld(held, member.peer, log.size)).from, 0);
    await one.stop();
    assert.equal([copy.base.files.size, copy.segments.names()], [0, []]);
    assert.equal([(await verifyLog(copy.storage)).root, told], [log.checkpoint.root, []]);
    await log.close();
  }),
);

test(
  'one whose copy is far behind a snapshot goes on there, and what it had is the beginning of what it fetches',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made();
    const { log, snapshots, size } = source;
    await name(source);
    const copy = memoryCopy();
    const { value } = await log.raw(0, 1, 20).next();
    const old = await LogCopy.create(
      { storage: copy.storage, mesh: log.meshId },
      (value as { bytes: Buffer }).bytes,
    );
    await old.close();
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const member = await net.member();
    const near = await replica(member, host, log.meshId, copy, { aheadEntries: 1_000 });
    assert.is(near.replica.copy!.first, 0);
    const { replica: one, froms } = await replica(member, host, log.meshId, copy, { aheadEntries: 900 });
    const kept = one.copy;
    one.start();
    await untilHeld(held, member.peer, log.size);
    assert.equal([await froms.next(), await froms.next()], [size, 0]);
    assert.is(one.copy, kept, 'who reads it need not know');
    assert.equal([(await one.copy!.read(3, 1)).length, one.state.secrets.size], [1, 1_000]);
    await one.stop();
    assert.is((await verifyLog(copy.storage)).root, log.checkpoint.root);
    await log.close();
  }),
);

test(
  'a replica that stops while it fetches the rest goes on where it was; one that stops in the middle of the joining does too',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made(4_000);
    const { log, snapshots, size } = source;
    await name(source);
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const member = await net.member();
    const stopped = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const crashing = memoryCopy((step): Promise<void> => {
      if (step !== 'remove') return Promise.resolve();
      stopped.resolve();
      return released.promise;
    });
    // Slow enough to be stopped between two pieces.
    const slow = await replica(member, host, log.meshId, crashing, { backfillBytesPerSecond: 1 });
    slow.replica.start();
    await untilHeld(held, member.peer, log.size);
    assert.is(await slow.froms.next(), size);
    while (slow.replica.status.fetched === 0) await new Promise((resolve) => setImmediate(resolve));
    const { fetched } = slow.replica.status;
    await slow.replica.stop();
    const second = await replica(member, host, log.meshId, crashing);
    assert.equal([second.replica.status.from, second.replica.state.secrets.size], [size, 4_000]);
    assert.is(second.replica.isStateProved, true);
    second.replica.start();
    await stopped.promise;
    assert.ok(fetched > 0 && fetched < size);
    // The process is gone; what it had moved is there, and the snapshot, too.
    const left = afterCrash(crashing);
    assert.is(left.base.files.size, 1);
    const third = await replica(member, host, log.meshId, left);
    assert.is(third.replica.status.from, size);
    third.replica.start();
    assert.is(await third.froms.next(), 0);
    await third.replica.stop();
    assert.is((await verifyLog(left.storage)).root, log.checkpoint.root);
    released.resolve();
    await second.replica.stop();
    await log.close();
  }),
);

test(
  'without an entry that names the state it is proved by replaying the log when all of it is here',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const { log, snapshots, size } = await made();
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const member = await net.member();
    const { replica: one, froms } = await replica(member, host, log.meshId, memoryCopy(), {
      backfillBytesPerSecond: 10_000_000,
    });
    one.start();
    await untilHeld(held, member.peer, log.size);
    assert.is(await froms.next(), size);
    assert.is(await froms.next(), 0);
    assert.equal([one.isStateProved, one.state.secrets.size], [true, 1_000]);
    await one.stop();
    await log.close();
  }),
);

/** The file with another state in it, and every digest in the file made right: only the log can tell. */
function forgedFile(file: Buffer): Buffer {
  const lines = file.toString().split('\n');
  lines.pop();
  lines.pop();
  const head = JSON.parse(lines[0]!) as { reducers: { name: string; digest: string }[] };
  const at = lines.findIndex((line, n) => n > 0 && line.includes('NAME_7"'));
  lines[at] = lines[at]!.replace('NAME_7"', 'NAME_6999"');
  head.reducers[at - 1]!.digest = hash('sha256', lines[at]!);
  lines[0] = JSON.stringify(head);
  const before = `${lines.join('\n')}\n`;
  return Buffer.from(
    `${before}${JSON.stringify({ digest: createHash('sha256').update(before).digest('hex') })}\n`,
  );
}

test(
  'a state that the log does not name is thrown away aloud, and made from the first entry on when all are here',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made(4_000);
    const { log, snapshots, size } = source;
    await name(source);
    snapshots.files.set(size, forgedFile(snapshots.files.get(size)!));
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const member = await net.member();
    const copy = memoryCopy();
    const slow = await replica(member, host, log.meshId, copy, { backfillBytesPerSecond: 1 });
    slow.replica.start();
    await untilHeld(held, member.peer, log.size);
    const told = await slow.faults.next();
    assert.is(told.code, 'SF_NOT_PROVED');
    assert.match(told.message, /not the one that the log names/);
    assert.equal([slow.replica.isStateProved, slow.replica.state.secrets.size], [false, 0]);
    await slow.replica.stop();
    const { replica: one, froms, faults } = await replica(member, host, log.meshId, copy);
    assert.is((await faults.next()).code, 'SF_NOT_PROVED', 'a restart does not forget it');
    one.start();
    assert.is(await froms.next(), 0);
    assert.equal([one.isStateProved, one.state.secrets.has('NAME_7')], [true, true]);
    await one.stop();
    await log.close();
  }),
);

test(
  'a source that lies about its snapshot is told of, nothing is kept, and the log is fetched from its first entry',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made(300);
    const { log, snapshots, size } = source;
    await name(source);
    const file = snapshots.files.get(size)!;
    const other = await made(301);
    const bytes = (changed: string): Buffer => Buffer.from(changed);
    const text = file.toString();
    const badSignature = (() => {
      const lines = text.split('\n');
      const head = JSON.parse(lines[0]!) as { checkpoint: string };
      head.checkpoint = head.checkpoint.replace(/(.{8})=\n$/, 'AAAAAAAA=\n').replace(/.{6}\n$/, 'AAAAA=\n');
      lines[0] = JSON.stringify(head);
      const before = `${lines.slice(0, -2).join('\n')}\n`;
      return bytes(`${before}${JSON.stringify({ digest: hash('sha256', before) })}\n`);
    })();
    const lies: [string, Buffer, Partial<Record<'size' | 'bytes', number>>, string][] = [
      ['another byte', bytes(text.replace('NAME_7"', 'NAME_8"')), {}, 'SF_NOT_PROVED'],
      ['cut short', bytes(`${text.slice(0, text.length / 2)}\n`), {}, 'SF_NOT_PROVED'],
      ['garbage', Buffer.alloc(5_000, 0x41), {}, 'SF_NOT_PROVED'],
      ['of other entries', other.snapshots.files.get(other.size)!, {}, 'SF_NOT_PROVED'],
      ['signed by nobody', badSignature, {}, 'SF_NOT_PROVED'],
      ['longer than any', file, { bytes: 2 ** 40 }, 'SF_NOT_PROVED'],
      ['of another size', file, { size: size + 1 }, 'none'],
      ['more bytes than said', file, { bytes: 10 }, 'none'],
    ];
    let lie = 0;
    await registry.handleProtocol({
      protocol: LOG_PROTOCOL,
      access: 'members',
      maxInboundStreams: 8,
      handler: async (stream) => {
        const channel = new FrameChannel(stream);
        const say = (word: LogWord): Promise<void> => channel.write(logWords(word));
        const asked = openLogFrame(await channel.expect());
        const [, lied, said] = lies[lie]!;
        if (asked.type === 'snapshot') {
          await say({ type: 'snapshot.file', size, bytes: lied.length, ...said });
          await channel.write(lied, undefined, logDataHead);
          await channel.read();
          return;
        }
        await say({
          type: 'tip',
          checkpoint: null,
          at: null,
          handovers: [],
          holds: true,
          snapshot: { size, bytes: file.length },
        });
        for await (const piece of log.raw(0, 1_000_000)) {
          await say({ type: 'batches', first: 0, size: piece.size, bytes: piece.bytes.length });
          await channel.write(piece.bytes, undefined, logDataHead);
        }
        for (;;) if ((await channel.read()) === null) return;
      },
    });
    const member = await net.member();
    for (lie = 0; lie < lies.length; lie += 1) {
      const [what, , , code] = lies[lie]!;
      const copy = memoryCopy();
      const begun = Promise.withResolvers<void>();
      const { replica: one, told } = await replica(member, host, log.meshId, copy);
      one.onBegun(() => begun.resolve());
      one.start();
      await begun.promise;
      assert.equal([one.copy!.first, copy.base.files.size], [0, 0], what);
      assert.is(told[0]?.code ?? 'none', code, what);
      assert.is(one.isStateProved, true);
      await one.stop();
    }
    await other.log.close();
    await log.close();
  }),
);

test(
  'a beginning that was signed otherwise than the snapshot is told of and never joined',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made(300);
    const { log, snapshots, size } = source;
    await name(source);
    const otherLog = await newLog(new MemoryStorage());
    await append(otherLog, 5_000, 300);
    await append(otherLog, 6_000, 50);
    let following: Log = log;
    await serve(net, registry, log.meshId, () => following, { snapshots });
    const member = await net.member();
    const copy = memoryCopy();
    const conflicts = new Signal<[string, string]>();
    const {
      replica: one,
      faults,
      froms,
    } = await replica(member, host, log.meshId, copy, {
      onConflict: (found) => conflicts.put(found),
    });
    // What is fetched of the beginning comes from the other history.
    one.onBegun(() => {
      following = otherLog;
    });
    one.start();
    const [ours, theirs] = await conflicts.next();
    assert.is(ours, (await log.checkpointAt(size))!.text);
    assert.is(theirs, (await otherLog.checkpointAt(size))!.text);
    assert.is((await faults.next()).code, 'SF_EQUIVOCATION');
    assert.equal([await froms.next(), one.status.from, copy.base.files.size], [size, size, 1]);
    await one.stop();
    await otherLog.close();
    await log.close();
  }),
);

test(
  'one that is still fetching serves what it holds and says what it lacks; a third gets the rest from who has it',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const source = await made(4_000);
    const { log, snapshots, size } = source;
    await name(source);
    const { held } = await serve(net, registry, log.meshId, () => log, { snapshots });
    const near = await net.member();
    const { replica: one, froms } = await replica(near, host, log.meshId, memoryCopy(), {
      backfillBytesPerSecond: 1,
    });
    one.start();
    await untilHeld(held, near.peer, log.size);
    assert.is(await froms.next(), size);
    await serve(net, net.registry(near).registry, log.meshId, () => one.copy);
    const far = await net.member();
    const left = new Signal<SuperfleetError>();
    const { replica: two } = await replica(far, near, log.meshId, memoryCopy(), {
      onEvent: ({ error }) => error !== null && left.put(error),
    });
    two.start();
    const error = await left.next();
    assert.equal(
      [error.code, error.message],
      ['SF_NOT_FOUND', `entries before ${size} are still being fetched here`],
    );
    await two.stop();
    await one.stop();
    await log.close();
  }),
);

test.run();
