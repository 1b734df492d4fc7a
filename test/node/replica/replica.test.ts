import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../../ledger/log/verify.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import type { Host } from '../../../node/network/host.ts';
import { Neighbours } from '../../../node/network/neighbours.ts';
import { askTip, type CopyHolder, followLog } from '../../../node/replica/follow.ts';
import { Replica } from '../../../node/replica/replica.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { LOG_PROTOCOL, logCreditBytes, logDataHead, logWords } from '../../../protocol/log-sync.ts';
import { newLog } from '../../ledger/kit.ts';
import { connect, type Net, Signal, withNet } from '../network/hosts.ts';
import { append, serve, untilHeld } from './served.ts';

function replica(
  net: Net,
  host: Host,
  mesh: string,
  options: Partial<Parameters<typeof Replica.open>[0]> = {},
) {
  const neighbours = new Neighbours(host, () => true);
  return Replica.open({
    host,
    mesh,
    storage: new MemoryStorage(),
    neighbours,
    founder: () => ({ peer: net.founder, addresses: [] }),
    replicas: () => [],
    ...options,
  });
}

test(
  'a replica gets the whole log, follows it as it grows, and is in step after a restart (promise 6)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const log = await newLog(new MemoryStorage(), { segmentBytes: 40_000 });
    await append(log, 0, 3_000);
    const { held } = await serve(net, registry, log.meshId, () => log);
    const member = await net.member();
    const storage = new MemoryStorage();
    const founder = () => ({ peer: host.peer, addresses: host.addresses() });
    const first = await replica(net, member, log.meshId, { storage, founder });
    first.start();
    await untilHeld(held, member.peer, log.size);
    await append(log, 3_000, 50);
    await untilHeld(held, member.peer, log.size);
    assert.is(first.copy!.checkpoint.text, log.checkpoint.text);
    assert.equal(first.status, {
      size: log.size,
      root: log.checkpoint.root,
      from: 0,
      fetched: 0,
      source: host.peer,
      behind: 0,
    });
    assert.is(first.state.secrets.size, 3_050, 'what it holds is replayed');
    await first.stop();

    await append(log, 3_050, 500);
    const second = await replica(net, member, log.meshId, { storage, founder });
    assert.is(second.state.secrets.size, 3_050);
    second.start();
    await untilHeld(held, member.peer, log.size);
    await second.stop();
    assert.is((await verifyLog(storage)).root, log.checkpoint.root);
    await log.close();
  }),
);

test(
  'a slow replica holds no more than its credit, and slows nobody (promise 18)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const log = await newLog(new MemoryStorage(), { segmentBytes: 4_000_000 });
    // More than the credit, so that a source without bounds would send it all.
    await append(log, 0, 75_000);
    const bytes = await log.export()[Symbol.asyncIterator]().next();
    assert.ok(bytes.value !== undefined);
    const { held } = await serve(net, registry, log.meshId, () => log);
    const slow = await net.member();
    const fast = await net.member();
    const begun = Promise.withResolvers<Buffer>();
    const never = new AbortController();
    let taken = 0;
    const stuck: CopyHolder = {
      copy: null,
      begin: (piece) => {
        taken += piece.length;
        begun.resolve(piece);
        return new Promise(() => {});
      },
    };
    const following = followLog(await connect(slow, host), {
      mesh: log.meshId,
      holder: stuck,
      signal: never.signal,
      onTip: () => {},
    });
    following.catch(() => {});
    await begun.promise;
    const quick = await replica(net, fast, log.meshId, {
      founder: () => ({ peer: host.peer, addresses: host.addresses() }),
    });
    quick.start();
    await untilHeld(held, fast.peer, log.size);
    assert.ok(taken < logCreditBytes);
    never.abort(new Error('over'));
    await quick.stop();
    await log.close();
  }),
);

test(
  'nothing of a source that lies is kept (promise 6)',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const log = await newLog(new MemoryStorage());
    await append(log, 0, 100);
    const lies: ((piece: Buffer) => Buffer)[] = [
      (piece) => Buffer.from(piece.toString().replace('NAME_40', 'NAME_41')),
      (piece) => piece.subarray(0, piece.length - 1),
      (piece) => Buffer.concat([piece, piece]),
      () => Buffer.alloc(1000, 0x41),
    ];
    let lie = 0;
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
          const told = lies[lie]!(bytes);
          await channel.write(logWords({ type: 'batches', first: 0, size, bytes: told.length }));
          await channel.write(told, undefined, logDataHead);
        }
        await channel.read();
      },
    });
    const member = await net.member();
    for (lie = 0; lie < lies.length; lie += 1) {
      const storage = new MemoryStorage();
      const failed = new Signal<SuperfleetError>();
      const made = await replica(net, member, log.meshId, {
        storage,
        founder: () => ({ peer: host.peer, addresses: host.addresses() }),
        onEvent: ({ error }) => error !== null && failed.put(error),
      });
      made.start();
      assert.is((await failed.next()).code, 'SF_NOT_PROVED', `lie ${lie}`);
      assert.equal([made.copy, storage.names()], [null, []]);
      await made.stop();
    }
    await log.close();
  }),
);

test(
  'only replicas may follow; every member hears the newest checkpoint',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const log = await newLog(new MemoryStorage());
    await append(log, 0, 10);
    await serve(net, registry, log.meshId, () => log, { mayFollow: () => false });
    const member = await net.member();
    const connection = await connect(member, host);
    const signal = AbortSignal.timeout(10_000);
    const tip = await askTip(connection, log.meshId, signal);
    assert.is(tip.checkpoint, log.checkpoint.text);
    const refused = async (mesh: string): Promise<string> => {
      const holder: CopyHolder = { copy: null, begin: () => Promise.reject(new Error('never')) };
      try {
        return await followLog(connection, { mesh, holder, signal, onTip: () => {} });
      } catch (error) {
        return (error as SuperfleetError).code;
      }
    };
    assert.is(await refused(log.meshId), 'SF_REFUSED');
    assert.is(await refused('f'.repeat(64)), 'SF_REFUSED');
    await log.close();
  }),
);

/** A founder with so many entries, and a replica that holds them and may be followed itself. */
async function followedReplica(net: Net, entries: number) {
  const { host, registry } = await net.founding();
  const log = await newLog(new MemoryStorage());
  await append(log, 0, entries);
  const { held } = await serve(net, registry, log.meshId, () => log);
  const near = await net.member();
  const one = await replica(net, near, log.meshId, {
    founder: () => ({ peer: host.peer, addresses: host.addresses() }),
  });
  one.start();
  await untilHeld(held, near.peer, log.size);
  const served = await serve(net, net.registry(near).registry, log.meshId, () => one.copy);
  return { host, log, held, near, one, served };
}

test(
  'while the founder is gone a replica follows another one',
  withNet(async (net) => {
    const { host, log, near, one, served } = await followedReplica(net, 400);
    const far = await net.member();
    const neighbours = new Neighbours(far, () => true);
    neighbours.tell(near.peer, near.addresses());
    const two = await replica(net, far, log.meshId, {
      neighbours,
      founder: () => ({ peer: host.peer, addresses: [] }),
      replicas: () => [near.peer, far.peer],
    });
    two.start();
    await untilHeld(served.held, far.peer, log.size);
    assert.is(two.status.source, near.peer);
    await append(log, 400, 25);
    await untilHeld(served.held, far.peer, log.size);
    assert.is(two.copy!.checkpoint.text, log.checkpoint.text);
    await two.stop();
    await one.stop();
    await log.close();
  }),
);

test(
  'a replica that hears that the founder answers follows it at once: whether it follows another one or waits for its next try',
  withNet(async (net) => {
    const { host, log, held, near, one } = await followedReplica(net, 100);
    // Nothing is done because its time has come.
    const timers = { now: () => 0, after: () => () => {}, random: () => 0 };
    for (const [who, replicas] of [
      ['follows another one', [near.peer]],
      ['waits', []],
    ] as const) {
      const far = await net.member();
      const neighbours = new Neighbours(far, () => true);
      let addresses: string[] = [];
      const heard = new Signal<string>();
      const two = await replica(net, far, log.meshId, {
        neighbours,
        founder: () => ({ peer: host.peer, addresses }),
        replicas: () => replicas,
        onEvent: ({ peer, error }) => heard.put(error === null ? peer : error.code),
        timers,
      });
      if (replicas.length > 0) neighbours.tell(near.peer, near.addresses());
      two.start();
      assert.is(await heard.next(), 'SF_UNREACHABLE', 'no address of the founder is known');
      for (const peer of replicas) assert.is(await heard.next(), peer, who);
      addresses = host.addresses();
      two.founderAnswers();
      for (const _ of replicas) assert.is(await heard.next(), 'SF_UNREACHABLE', 'the other one is left');
      assert.is(await heard.next(), host.peer, who);
      await untilHeld(held, far.peer, log.size);
      await two.stop();
    }
    await one.stop();
    await log.close();
  }),
);

test.run();
