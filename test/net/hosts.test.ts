// limit: 180 s
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../node/api/objects.ts';
import { lan } from './hosts.ts';
import { greeter, isRoot, Mesh, run } from './mesh.ts';

const name =
  'three hosts without a way out: found by mDNS, approved by code, work done on both, a goal reached by a model on one, no packet addressed outside (promise 17)';

if (!isRoot) {
  console.log('skipped: hosts.test.ts makes network namespaces and needs root');
  test.skip(name);
} else {
  test(name, async () => {
    const net = lan(3);
    const mesh = new Mesh();
    const capture = spawn(
      'ip',
      [
        'netns',
        'exec',
        net.bridge.namespace,
        'tcpdump',
        '-i',
        net.bridge.device,
        '-n',
        '-l',
        '-U',
        '-w',
        '-',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    // On the first member's own loopback, where it finds it by itself.
    const ollama = spawn(
      'ip',
      [
        'netns',
        'exec',
        net.hosts[1]!,
        process.execPath,
        fileURLToPath(new URL('./ollama-host.ts', import.meta.url)),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const bytes: Buffer[] = [];
    capture.stdout.on('data', (chunk: Buffer) => bytes.push(chunk));
    try {
      await once(capture.stderr, 'data'); // "listening on …"
      await once(ollama.stdout, 'data');
      await mesh.founder({ where: net.hosts[0]!, args: ['--port', '4701'] });
      const members = ['m1', 'm2'].map((member, n) =>
        mesh.applicant(member, { where: net.hosts[n + 1]!, args: ['--port', '0'] }),
      );
      for (const member of members) {
        const pending = await member.event('pending');
        assert.match(String(pending.code), /^\d{3}-\d{3}-\d{3}$/);
        const { items } = await mesh.json<{ items: { code: string | null; state: string }[] }>([
          'node',
          'list',
        ]);
        assert.ok(
          items.some((node) => node.state === 'pending' && node.code === pending.code),
          'the founder shows the code that the joiner shows',
        );
        await mesh.json(['node', 'approve', String(pending.code)]);
        await member.event('ready');
      }
      const repository = await greeter(join(mesh.home, 'greeter'));
      for (const member of ['m1', 'm2']) {
        const task = await mesh.json<{ state: string; verified: boolean; executor: { name: string } }>(
          [
            'task',
            'run',
            '--on',
            member,
            '--check',
            'sh test.sh',
            '--wait',
            '--',
            'sed',
            '-i',
            's/Helo/Hello/',
            'greet.sh',
          ],
          { cwd: repository },
        );
        assert.is(task.state, 'delivered');
        assert.is(task.verified, true);
        assert.is(task.executor.name, member);
      }
      const goal = await mesh.json<TaskDetail>(
        ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--wait'],
        { cwd: repository },
      );
      assert.equal([goal.state, goal.verified, goal.detail], ['delivered', true, null]);
      // Only the first has a model; any other may verify.
      assert.is(goal.executor?.name, 'm1');
      assert.not.equal(goal.verifier?.name, 'm1');
    } finally {
      await mesh.close();
      capture.kill('SIGTERM');
      ollama.kill('SIGTERM');
      await Promise.all([once(capture, 'close'), once(ollama, 'close')]);
      net.close();
    }
    const packets = Buffer.concat(bytes);
    const strays = await run(
      [
        'tcpdump',
        '-n',
        '-r',
        '-',
        'not (dst net 10.77.0.0/24 or dst net 224.0.0.0/4 or ip6 multicast or arp or dst net fe80::/10)',
      ],
      { input: packets as unknown as string },
    );
    assert.is(strays.code, 0, strays.stderr);
    assert.is(strays.stdout, '', 'every packet stays in the subnet or is multicast on it');
    const asked = await run(['tcpdump', '-n', '-r', '-', 'port 53'], { input: packets as unknown as string });
    assert.is(asked.stdout, '', 'nobody asks a name server');
    assert.ok(packets.length > 10_000, 'the capture saw the traffic');
  });
}

test.run();
