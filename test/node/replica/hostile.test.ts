import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connection, Stream } from '@libp2p/interface';
import pino from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { cosign } from '../../../ledger/lines/cosignature.ts';
import { handoverBatch } from '../../../ledger/log/handover.ts';
import type { Log } from '../../../ledger/log/log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import type { LogStorage } from '../../../ledger/storage/storage.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { libp2pKey } from '../../../node/daemon/identity.ts';
import { Membership } from '../../../node/daemon/membership.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import type { Host } from '../../../node/network/host.ts';
import { Neighbours } from '../../../node/network/neighbours.ts';
import { type CopyHolder, followLog } from '../../../node/replica/follow.ts';
import { Frozen } from '../../../node/replica/frozen.ts';
import { issueCertificate } from '../../../protocol/certificate.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { newSigningKey, type SigningKey, signingKeyFromSeed } from '../../../protocol/keys.ts';
import {
  LOG_PROTOCOL,
  type LogTip,
  type LogWord,
  logCreditBytes,
  logDataBytesMax,
  logDataHead,
  logFrameBytesMax,
  logWords,
  openLogFrame,
} from '../../../protocol/log-sync.ts';
import { KEY, long, newLog, OTHER_KEY, started } from '../../ledger/kit.ts';
import { connect, type Net, Signal, withNet } from '../network/hosts.ts';
import { serve, TIME } from './served.ts';

const NOTHING = { size: 0, root: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' };

/** A founder that serves this log to anyone, and a member that speaks the protocol by hand. */
async function serving(net: Net, log: Log) {
  const { host, registry, errors } = await net.founding();
  const { source, held } = await serve(net, registry, log.meshId, () => log);
  net.onStop(() => log.close());
  return { host, source, held, errors };
}

/** A member whose key the test has. */
async function keyedMember(net: Net): Promise<{ host: Host; key: SigningKey }> {
  const key = newSigningKey(randomBytes);
  return { key, host: await net.member({ privateKey: libp2pKey(key) }) };
}

const codeOf = (refused: Promise<unknown>): Promise<string> =>
  refused.then(
    () => 'nothing was refused',
    (error: SuperfleetError) => error.code,
  );

/** A peer that speaks the protocol by hand. */
class Hand {
  readonly channel: FrameChannel;

  constructor(stream: Stream) {
    this.channel = new FrameChannel(stream, { frameBytesMax: logFrameBytesMax, unreadBytesMax: 2 ** 25 });
  }

  static async open(connection: Connection): Promise<Hand> {
    return new Hand(await connection.newStream(LOG_PROTOCOL));
  }

  say(word: LogWord): Promise<void> {
    return this.channel.write(logWords(word));
  }

  async tip(): Promise<LogTip> {
    return openLogFrame(await this.channel.expect()) as LogTip;
  }

  /** Reads one piece and says where it ends. */
  async piece(): Promise<number> {
    const word = openLogFrame(await this.channel.expect());
    if (word.type !== 'batches') throw new Error(`a ${word.type} where batches must come`);
    for (let left = word.bytes; left > 0; ) {
      const part = openLogFrame(await this.channel.expect());
      if (part.type !== 'data') throw new Error('no data');
      left -= part.bytes.length;
    }
    return word.size;
  }

  /** Why the other side ended it. */
  async broken(): Promise<void> {
    const until = async (): Promise<never> => {
      for (;;) await this.channel.expect(AbortSignal.timeout(10_000));
    };
    assert.is(await codeOf(until()), 'SF_UNREACHABLE');
  }
}

test(
  'a replica’s cosignature is one line of its own: with anything beside it none is kept, so that no proof file is spoiled',
  withNet(async (net) => {
    const log = await newLog(new MemoryStorage());
    const { host, source, held, errors } = await serving(net, log);
    const { host: liar, key } = await keyedMember(net);
    const { text, size, root } = log.checkpoint;
    const honest = cosign(text, { name: liar.peer, key, time: 1 });
    const other = signingKeyFromSeed(Buffer.alloc(32, 77));
    const forged = cosign(text, { name: host.peer, key: other, time: 1 }).slice(text.length);
    const lies = [
      `${honest}— nobody ${Buffer.alloc(80, 1).toString('base64')}\n`,
      `${text}${forged}${honest.slice(text.length)}`,
      `${honest}${honest.slice(text.length)}`,
    ];
    for (const cosigned of lies) {
      const hand = await Hand.open(await connect(liar, host));
      await hand.say({ type: 'follow', mesh: log.meshId, ...NOTHING });
      await hand.tip();
      assert.is(await hand.piece(), size);
      await hand.say({ type: 'ack', size, root, cosigned });
      await hand.broken();
      assert.is(errors.pop(), 'SF_NOT_PROVED');
      assert.is(source.cosigned(text), text);
      while ((await held.next()).length > 0);
    }
    const hand = await Hand.open(await connect(liar, host));
    await hand.say({ type: 'follow', mesh: log.meshId, ...NOTHING });
    await hand.tip();
    await hand.piece();
    await hand.say({ type: 'ack', size, root, cosigned: honest });
    while (!(await held.next()).some((follower) => follower.size === size));
    assert.is(source.cosigned(text), honest);
    hand.channel.abort(new Error('over'));
  }),
);

test(
  'a follower that acknowledges what it was not sent, or twice, is left (promises 6 and 18)',
  withNet(async (net) => {
    const log = await newLog(new MemoryStorage());
    await log.append([started(1), started(2)], TIME, 1).durable;
    const { host, errors } = await serving(net, log);
    const member = await net.member();
    const { size, root } = log.checkpoint;
    for (const acks of [
      [{ size: 2, root }],
      [{ size, root: 'f'.repeat(64) }],
      [log.checkpoint, log.checkpoint],
    ]) {
      const hand = await Hand.open(await connect(member, host));
      await hand.say({ type: 'follow', mesh: log.meshId, ...NOTHING });
      await hand.tip();
      assert.is(await hand.piece(), size);
      for (const ack of acks) await hand.say({ type: 'ack', size: ack.size, root: ack.root });
      await hand.broken();
      assert.is(errors.pop(), 'SF_FRAME');
    }
  }),
);

/** Reads that wait while `gate` is there, once they are past a place. */
class GatedStorage extends MemoryStorage {
  gate: { from: number; reached: () => void; opened: Promise<void> } | null = null;

  override async open(...args: Parameters<LogStorage['open']>) {
    const file = await super.open(...args);
    const read: typeof file.read = async (into, position) => {
      const { gate } = this;
      if (gate !== null && position + into.length > gate.from) {
        gate.reached();
        await gate.opened;
      }
      return file.read(into, position);
    };
    return {
      read,
      size: () => file.size(),
      write: file.write.bind(file),
      sync: () => file.sync(),
      truncate: file.truncate.bind(file),
      close: () => file.close(),
    };
  }
}

test(
  'a follower that goes while its next piece is read is gone: nothing waits for its credit (promise 18)',
  withNet(async (net) => {
    const storage = new GatedStorage();
    const log = await newLog(storage);
    const sizes: number[] = [];
    const ends: number[] = [];
    // Three of them are more than the credit.
    for (let n = 0; n < 3; n += 1) {
      const events = Array.from({ length: 800 }, (_, at) => long(n * 800 + at, 2_048));
      sizes.push((await log.append(events, TIME, 1).durable).size);
      const file = await storage.open(0, 'read');
      ends.push(await file.size());
      await file.close();
    }
    assert.ok(ends[1]! < 8 * 2 ** 20 && ends[2]! > 9 * 2 ** 20, `${ends}`);
    const { host, held } = await serving(net, log);
    const member = await net.member();
    const reached = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    storage.gate = { from: ends[1]! + 2 ** 20, reached: reached.resolve, opened: opened.promise };
    const hand = await Hand.open(await connect(member, host));
    await hand.say({ type: 'follow', mesh: log.meshId, ...NOTHING });
    await hand.tip();
    while ((await hand.piece()) < sizes[1]!);
    await reached.promise;
    const [connection] = host.libp2p.getConnections(member.libp2p.peerId);
    const stream = connection!.streams.find(({ protocol }) => protocol === LOG_PROTOCOL)!;
    const gone = new Promise((resolve) => stream.addEventListener('close', resolve));
    hand.channel.abort(new Error('gone'));
    await gone;
    await new Promise((resolve) => setImmediate(resolve));
    opened.resolve();
    while ((await held.next()).length > 0);
  }),
);

test(
  'a log whose files end too early is read once, and the follower is told to go (promise 18)',
  withNet(async (net) => {
    const storage = new MemoryStorage();
    const log = await newLog(storage);
    await log.append([started(1), started(2)], TIME, 1).durable;
    const { host, errors } = await serving(net, log);
    const file = await storage.open(0, 'write');
    await file.truncate(100);
    await file.close();
    const hand = await Hand.open(await connect(await net.member(), host));
    await hand.say({ type: 'follow', mesh: log.meshId, ...NOTHING });
    await hand.tip();
    await hand.broken();
    assert.is(errors.pop(), 'SF_LOG_DAMAGED');
  }),
);

test(
  'a source that sends a piece in crumbs is left (promise 18)',
  withNet(async (net) => {
    const log = await newLog(new MemoryStorage());
    await log.append([started(1)], TIME, 1).durable;
    const { host, registry } = await net.founding();
    await registry.handleProtocol({
      protocol: LOG_PROTOCOL,
      access: 'members',
      maxInboundStreams: 4,
      handler: async (stream) => {
        const channel = new FrameChannel(stream);
        await channel.expect();
        await channel.write(
          logWords({ type: 'tip', checkpoint: null, at: null, handovers: [], holds: true }),
        );
        for await (const { bytes, size } of log.raw(0, 1_000_000)) {
          await channel.write(logWords({ type: 'batches', first: 0, size, bytes: bytes.length }));
          for (const byte of bytes) await channel.write(Uint8Array.of(byte), undefined, logDataHead);
        }
      },
    });
    const holder: CopyHolder = { copy: null, begin: () => Promise.reject(new Error('it was taken')) };
    const following = followLog(await connect(await net.member(), host), {
      mesh: log.meshId,
      holder,
      signal: AbortSignal.timeout(10_000),
      onTip: () => {},
    });
    assert.is(await codeOf(following), 'SF_FRAME');
    await log.close();
  }),
);

test(
  'a source that sends more than was granted is left while the disk still writes (promise 18)',
  withNet(async (net) => {
    const log = await newLog(new MemoryStorage());
    for (let n = 0; n < 3; n += 1) {
      const events = Array.from({ length: 800 }, (_, at) => long(n * 800 + at, 2_048));
      await log.append(events, TIME, 1).durable;
    }
    const { host, registry } = await net.founding();
    const left = new Signal<string>();
    await registry.handleProtocol({
      protocol: LOG_PROTOCOL,
      access: 'members',
      maxInboundStreams: 4,
      handler: async (stream) => {
        const channel = new FrameChannel(stream);
        await channel.expect();
        await channel.write(
          logWords({ type: 'tip', checkpoint: null, at: null, handovers: [], holds: true }),
        );
        const pour = async (): Promise<void> => {
          for await (const { first, bytes, size } of log.raw(1, 1)) {
            await channel.write(logWords({ type: 'batches', first, size, bytes: bytes.length }));
            for (let at = 0; at < bytes.length; at += logDataBytesMax) {
              await channel.write(bytes.subarray(at, at + logDataBytesMax), undefined, logDataHead);
            }
          }
          await channel.expect();
        };
        left.put(await codeOf(pour()));
      },
    });
    const writing = Promise.withResolvers<never>();
    let taken = 0;
    const first = (await log.checkpointAt(1))!;
    const take = (bytes: Buffer): Promise<never> => {
      taken += bytes.length;
      return writing.promise;
    };
    const following = followLog(await connect(await net.member(), host), {
      mesh: log.meshId,
      holder: {
        copy: { first: 0, size: 1, checkpoint: first, take },
        begin: () => Promise.reject(new Error('begun')),
      },
      signal: AbortSignal.timeout(20_000),
      onTip: () => {},
    });
    const code = codeOf(following);
    assert.is(await left.next(), 'SF_UNREACHABLE');
    writing.reject(new Error('the disk is gone'));
    assert.is(await code, 'SF_FRAME');
    assert.ok(taken > 0 && taken <= logCreditBytes, `${taken}`);
    await log.close();
  }),
);

test(
  'a proof of two histories that a new epoch has ended freezes nobody again (promises 7 and 18)',
  withNet(async (net) => {
    const root = await mkdtemp(join(tmpdir(), 'sf-frozen-'));
    net.onStop(() => rm(root, { recursive: true }));
    const { host } = await keyedMember(net);
    const founder = await net.founding();
    const storage = new MemoryStorage();
    const log = await newLog(storage);
    const genesis = await log.line(0);
    const mesh = log.meshId;
    await log.close();
    const said = {
      mesh,
      peer: host.peer,
      name: 'ada',
      owner: 'olga',
      roles: ['worker' as const],
      labels: {},
    };
    const membership = await Membership.admit(
      {
        genesis,
        certificate: issueCertificate({ ...said, epoch: 1, index: 2, issuedAt: 1 }, KEY),
        addresses: [],
      },
      host.peer,
      {
        membership: join(root, 'membership.json'),
        roster: join(root, 'roster.json'),
        write: (path, text) => writeFile(path, text),
        remove: (path) => rm(path, { force: true }),
      },
    );
    const freezes: SuperfleetError[] = [];
    const frozen = await Frozen.load({
      root,
      membership,
      host,
      logger: pino({ level: 'silent' }),
      onFreeze: (error) => freezes.push(error),
      onHandovers: () => {},
    });
    net.onStop(async () => frozen.close());
    const neighbours = new Neighbours(host, () => true);
    const note = (digit: string, by = KEY): string =>
      makeCheckpoint({ origin: mesh, size: 9, root: digit.repeat(64) }, by).text;
    await frozen.take([note('a'), note('b')], neighbours);
    assert.is(freezes.length, 1);

    // The operator opens a new epoch by the recovery key.
    const next = signingKeyFromSeed(Buffer.alloc(32, 99));
    const copy = await LogCopy.open({ storage, mesh });
    const to = { founder: founder.host.peer, logKey: next.publicKey, authority: 'recovery' as const };
    const { line } = handoverBatch(copy.standing, to, OTHER_KEY, TIME);
    await copy.close();
    assert.ok(await membership.takeHandovers([line], neighbours));
    await frozen.thaw();
    assert.is(frozen.proof, null);
    await frozen.take([note('a'), note('b')], neighbours);
    assert.equal([frozen.proof, freezes.length], [null, 1], 'told once more by somebody who kept it');
    await frozen.take([note('a', next), note('b', next)], neighbours);
    assert.is(freezes.length, 2, 'one of the new epoch counts');
  }),
);

test.run();
