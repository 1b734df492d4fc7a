// limit: 150 s
// timed: its leases are short, and a lossy link needs its time
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, OwnNodeObject, Page } from '../../node/api/objects.ts';
import { Fleet } from './fleet.ts';
import { lan } from './hosts.ts';
import { isRoot, ok } from './mesh.ts';

const NAMES = [
  'a replica behind a link that loses packets follows, and nobody waits for it (promises 6 and 18)',
  'a replica whose packets do not get out is counted as behind, and catches up when they do',
  'a replica on a slow link holds in the end what the founder signed',
  'a replica that the founder cannot reach follows another one',
];

if (!isRoot) {
  console.log('skipped: replica-network.test.ts makes network namespaces and needs root');
  for (const name of NAMES) test.skip(name);
} else {
  const net = lan(3);
  const [hub, , far] = net.hosts as [string, string, string];
  const [hubAddress, , farAddress] = net.addresses as [string, string, string];
  const fleet = new Fleet();
  test.before(async () => {
    const first = await fleet.founder({ where: hub, args: ['--port', '4701'] });
    await first.end('SIGTERM');
    // A connection that fell silent is given up after a lease.
    fleet.configure('hub', { mdns: true, listen: ['0.0.0.0'], heartbeat: '500ms', lease: '4s' });
    await fleet.up(['--port', '4701']);
    const { token } = await fleet.json<{ token: string }>([
      'invite',
      ...['--role', 'worker', '--role', 'replica', '--uses', '2'],
    ]);
    const joined = ['near', 'far'].map((name, at) =>
      fleet.join(name, [token, '--name', name, '--policy', 'always'], { where: net.hosts[at + 1]! }),
    );
    await Promise.all(joined.map((daemon) => daemon.event('ready')));
    for (const name of ['near', 'far']) await inStep(name);
  });
  test.after(async () => {
    await fleet.close();
    net.close();
  });

  const rules = (where: string, chain: string): Promise<string> =>
    ok(['nft', '-f', '-'], { where, input: `table inet fault {\n${chain}\n}\n` });
  const well = (where: string): Promise<string> => ok(['nft', 'delete', 'table', 'inet', 'fault'], { where });
  const node = async (name: string): Promise<NodeObject> => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.find((one) => one.name === name)!;
  };
  const inStep = (name: string): Promise<void> =>
    fleet.untilAsked(async () => (await node(name)).lag === 0, `${name} holds the whole log`);
  const mesh = (): Promise<MeshObject> => fleet.client.get<MeshObject>('/v1/status');
  const work = async (tasks: number): Promise<void> => {
    const ids: string[] = [];
    for (let n = 0; n < tasks; n += 1) ids.push(await fleet.submit(['true'], { on: 'hub' }));
    for (const id of ids) {
      await fleet.untilAsked(
        async () => (await fleet.describe(id)).state === 'delivered',
        `${id} is delivered`,
      );
    }
  };
  const sameLog = async (name: string): Promise<void> => {
    const { size, root } = await mesh();
    const report = await verifyLog(new FileStorage(join(fleet.dir(name), 'log')));
    assert.equal([report.size, report.root], [size, root], name);
  };

  test(NAMES[0]!, async () => {
    const lossy = (hook: string): string =>
      `chain ${hook} { type filter hook ${hook} priority 0; numgen random mod 100 < 15 drop; }`;
    await rules(far, `${lossy('input')}\n${lossy('output')}`);
    await work(4);
    await inStep('near');
    await inStep('far');
    await well(far);
    await sameLog('far');
  });

  test(NAMES[1]!, async () => {
    await rules(far, `chain output { type filter hook output priority 0; ip daddr ${hubAddress} drop; }`);
    await work(4);
    await inStep('near');
    assert.is.not((await node('far')).lag, 0);
    await well(far);
    await inStep('far');
    await sameLog('far');
  });

  test(NAMES[2]!, async () => {
    const tbf = ['tbf', 'rate', '256kbit', 'burst', '16kbit', 'latency', '400ms'];
    execFileSync('ip', ['netns', 'exec', far, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'root', ...tbf]);
    await work(4);
    await inStep('near');
    await inStep('far');
    execFileSync('ip', ['netns', 'exec', far, 'tc', 'qdisc', 'del', 'dev', 'eth0', 'root']);
    await sameLog('far');
  });

  test(NAMES[3]!, async () => {
    const near = await node('near');
    // One that works says often that it does, and so notices within a lease that nobody answers.
    const busy = await fleet.submit(['sleep', '600'], { on: 'far' });
    await fleet.untilAsked(async () => (await fleet.describe(busy)).state === 'running', 'far works');
    const drop = (hook: string, side: string): string =>
      `chain ${hook} { type filter hook ${hook} priority 0; ip ${side} ${farAddress} drop; }`;
    await rules(hub, `${drop('input', 'saddr')}\n${drop('output', 'daddr')}`);
    await work(2);
    const { size } = await mesh();
    const own = new Client({ dir: fleet.dir('far'), startHint: 'mesh-node start' });
    const status = (): Promise<OwnNodeObject> => own.get<OwnNodeObject>('/v1/node');
    // A dial to a founder that swallows packets takes its time before the other replica has its turn.
    const follows = (): Promise<void> =>
      fleet.untilAsked(async () => {
        const { replica } = await status();
        return replica?.follows?.id === near.id && replica.size >= size;
      }, 'it follows the other replica');
    await follows().catch(follows);
    await well(hub);
    await inStep('far');
    await fleet.client.post(`/v1/tasks/${busy}/stop`);
    await fleet.untilAsked(async () => (await fleet.describe(busy)).state === 'cancelled', 'far is idle');
    await inStep('far');
    await sameLog('far');
  });
}

test.run();
