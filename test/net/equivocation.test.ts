import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject, NodeObject, Page } from '../../node/api/objects.ts';
import { libp2pKey, readKey } from '../../node/daemon/identity.ts';
import { acceptSessions } from '../../node/network/founder-sessions.ts';
import { createHost } from '../../node/network/host.ts';
import { Registry } from '../../node/network/registry.ts';
import { SESSION_VERSION } from '../../protocol/session.ts';
import { Fleet, freePort } from './fleet.ts';

// The same port after every start: without mDNS that is where members look for their founder.
const PORT = await freePort();
const ARGS = ['--port', String(PORT)];
const fleet = await Fleet.start({
  hub: { slots: 1, heartbeat: '300ms' },
  hubArgs: ARGS,
  members: { w: { slots: 1 } },
});
test.after(() => fleet.close());
const proof = (name: string): string => join(fleet.dir(name), 'equivocation.json');
const status = async (): Promise<NodeObject> =>
  JSON.parse((await fleet.node('w', ['status', '--json'])).stdout) as NodeObject;

/** A founder with the real keys that signs two roots for one size: says one in its welcome, and the other after it. */
async function twoFaced(): Promise<{ stop(): Promise<void>; told: Promise<void> }> {
  const dir = fleet.dir('hub');
  const identity = (await readKey(join(dir, 'identity.key')))!;
  const key = (await readKey(join(dir, 'log.key')))!;
  const log = await Log.open({ storage: new FileStorage(join(dir, 'log')), key: null });
  const { meshId, size } = log;
  const [one, other] = ['a', 'b'].map((digit) =>
    makeCheckpoint({ origin: meshId, size: size + 5, root: digit.repeat(64) }, key),
  );
  await log.close();
  const host = await createHost({
    privateKey: libp2pKey(identity),
    listen: [`/ip4/127.0.0.1/tcp/${PORT}`],
    mdns: false,
  });
  const everyone = { isMember: () => true, isFounder: () => false };
  const registry = new Registry(host, everyone);
  const told = Promise.withResolvers<void>();
  const sessions = await acceptSessions({
    registry,
    mesh: meshId,
    onSession: (session) => {
      const common = { version: SESSION_VERSION, features: [], mesh: meshId, epoch: 1 };
      const times = { heartbeatMs: 300, leaseMs: 15_000, paused: false, resume: [] };
      session.send({ type: 'welcome', ...common, ...times, checkpoint: one!.text });
      return {
        onMessage: (message) => {
          if (message.type !== 'heartbeat') return;
          session.send({ type: 'beat', sequence: message.sequence, checkpoint: other!.text });
          told.resolve();
        },
        onClosed: () => {},
      };
    },
  });
  const stop = async (): Promise<void> => {
    await sessions.stop();
    await registry.stop();
    await host.stop();
  };
  return { told: told.promise, stop };
}

test('a member that is shown two roots for one size freezes, keeps both as proof, and shows them to the founder that returns (promise 7)', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  const liar = await twoFaced();
  await liar.told;
  await fleet.untilAsked(async () => existsSync(proof('w')), 'the proof is on the disk');
  await liar.stop();
  const kept = JSON.parse(readFileSync(proof('w'), 'utf8')) as { checkpoints: string[] };
  assert.is(new Set(kept.checkpoints.map((text) => text.split('\n')[1])).size, 1, 'one size');
  assert.is(new Set(kept.checkpoints.map((text) => text.split('\n')[2])).size, 2, 'two roots');
  assert.match((await status()).work!, /two histories/);

  // Restarted it is frozen still, and does not dial the founder.
  await fleet.daemon('w').end('SIGTERM');
  const again = await fleet.startMember('w');
  assert.is(again.lines.find(({ event }) => event === 'ready')!.online, false);
  assert.match((await status()).work!, /two histories/);

  // The founder with the honest log comes back and is shown the proof: its key has signed both.
  const hub = await fleet.up(ARGS);
  assert.is(await hub.ended(), 5);
  assert.match(hub.log, /SF_EQUIVOCATION/);
  assert.ok(existsSync(proof('hub')));
  const third = await fleet.hub(['start', ...ARGS]);
  assert.is(third.code, 5, third.stderr);
  assert.match(third.stderr, /--accept-loss --recovery-key FILE/);
});

test('the recovery key opens a new epoch, and who was frozen follows it (promise 8)', async () => {
  const key = join(fleet.home, 'recovery.key');
  const alone = await fleet.hub(['start', ...ARGS, '--accept-loss']);
  assert.is(alone.code, 2, alone.stderr);
  const wrong = await fleet.hub([
    'start',
    ...ARGS,
    '--accept-loss',
    '--recovery-key',
    join(fleet.dir('hub'), 'log.key'),
  ]);
  assert.is(wrong.code, 5, wrong.stderr);
  await fleet.up([...ARGS, '--accept-loss', '--recovery-key', key]);
  const mesh = await fleet.client.get<MeshObject>('/v1/status');
  assert.is(mesh.epoch, 2);
  assert.ok(existsSync(join(fleet.dir('hub'), 'equivocation-before-epoch-2.json')));
  await fleet.untilAsked(async () => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.some(({ name, state }) => name === 'w' && state === 'online');
  }, 'the member is back');
  assert.not.ok(existsSync(proof('w')));
  await fleet.ended(await fleet.submit(['true'], { on: 'w' }));
  assert.is((await fleet.hub(['ledger', 'verify'])).code, 0);

  // Once: with nothing to give up the same words change nothing.
  await fleet.hubDaemon!.end('SIGTERM');
  await fleet.up([...ARGS, '--accept-loss', '--recovery-key', key]);
  assert.is((await fleet.client.get<MeshObject>('/v1/status')).epoch, 2);
});

test.run();
