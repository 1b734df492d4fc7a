// limit: 120 s
// timed: its leases are short
import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet, wake } from './fleet.ts';
import { lan } from './hosts.ts';
import { isRoot } from './mesh.ts';

const NAMES = [
  'a founder that comes back on another port is found by mDNS, and what runs goes on',
  'a founder whose address changes is found by mDNS',
  'without mDNS a member tries the known address until the founder is there again, or is told another',
];
/** Well within a lease, so that running attempts outlive the move. */
const FOUND_MS = 10_000;

if (!isRoot) {
  console.log('skipped: reconnect.test.ts makes network namespaces and needs root');
  for (const name of NAMES) test.skip(name);
} else {
  const net = lan(2);
  const [hub, m1] = net.hosts as [string, string];
  const fleet = new Fleet();
  test.before(async () => {
    await fleet.founder({ where: hub, args: ['--port', '4701'] });
    fleet.hubDaemon = fleet.daemons.at(-1)!;
    fleet.members.set('m1', await fleet.member('m1', { where: m1 }));
  });
  test.after(async () => {
    await fleet.close();
    net.close();
  });

  const online = async (): Promise<boolean> => {
    const node = await fleet.client.get<{ state: string }>('/v1/nodes/m1').catch(() => null);
    return node?.state === 'online';
  };
  async function back(what: string): Promise<number> {
    const began = performance.now();
    await fleet.untilAsked(online, what);
    const ms = performance.now() - began;
    console.log(`${what}: after ${Math.round(ms)} ms`);
    return ms;
  }

  test(NAMES[0]!, async () => {
    const task = await fleet.submit(['sh', '-c', 'sleep 600; : mark-goes-on'], { on: 'm1' });
    await fleet.untilAsked(async () => (await fleet.describe(task)).state === 'running', 'it runs');
    await fleet.hubDaemon!.end('SIGKILL');
    await fleet.up(['--port', '4702']);
    const ms = await back('found on another port');
    assert.ok(ms < FOUND_MS, `back after ${ms} ms`);
    await wake('mark-goes-on');
    await fleet.untilAsked(async () => (await fleet.describe(task)).state === 'delivered', 'it is delivered');
    assert.is((await fleet.describe(task)).attempts, 1);
  });

  test(NAMES[1]!, async () => {
    await fleet.hubDaemon!.end('SIGTERM');
    execFileSync('ip', ['-n', hub, 'address', 'del', '10.77.0.1/24', 'dev', 'eth0']);
    execFileSync('ip', ['-n', hub, 'address', 'add', '10.77.0.99/24', 'dev', 'eth0']);
    execFileSync('ip', ['-n', hub, 'route', 'replace', 'default', 'dev', 'eth0']);
    await fleet.up(['--port', '4702']);
    const ms = await back('found at another address');
    assert.ok(ms < FOUND_MS, `back after ${ms} ms`);
  });

  test(NAMES[2]!, async () => {
    await fleet.daemon('m1').end('SIGTERM');
    await fleet.hubDaemon!.end('SIGTERM');
    for (const name of ['hub', 'm1']) fleet.configure(name, { mdns: false, listen: ['0.0.0.0'] });
    await fleet.up(['--port', '4703']);
    const start = fleet.startMember('m1', ['--port', '0', '--founder', '10.77.0.99:4703']);
    fleet.members.set('m1', await start);
    await back('told by --founder');
    await fleet.daemon('m1').end('SIGTERM');
    fleet.members.set('m1', await fleet.startMember('m1'));
    await back('where it was last');
    await fleet.hubDaemon!.end('SIGKILL');
    await fleet.up(['--port', '4703']);
    const ms = await back('on the same port');
    assert.ok(ms < 15_000, `back after ${ms} ms`);
  });
}

test.run();
