// limit: 300 s
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, TaskDetail } from '../../node/api/objects.ts';
import { lan } from './hosts.ts';
import { isRoot, Mesh, type Outcome, run } from './mesh.ts';

/** Follows docs/succession.md word by word on four hosts of a LAN: what is typed is what stands in the page. */
const ROOT = resolve(import.meta.dirname, '../..');
const PAGE = readFileSync(join(ROOT, 'docs/succession.md'), 'utf8');

/** Commands of a section, each with the machine that the comment above it names. */
function drill(heading: string): { where: string; command: string }[] {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert.ok(section !== undefined, `the page has a section ${heading}`);
  let where = '';
  return [...section.matchAll(/```sh\n([\s\S]*?)```/g)]
    .flatMap((match) => match[1]!.trim().split('\n'))
    .flatMap((line) => {
      if (!line.startsWith('# on ')) return [{ where, command: line }];
      where = line.slice('# on '.length).split(':')[0]!;
      return [];
    });
}

const PATIENCE_MS = 60_000;
/** Asks until the answer is yes. */
async function until(ask: () => Promise<boolean>, what: string): Promise<number> {
  const began = performance.now();
  while (!(await ask())) {
    if (performance.now() - began > PATIENCE_MS) throw new Error(`expected: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return performance.now() - began;
}

const skip = isRoot ? null : 'needs root for network namespaces';
if (skip !== null) console.log(`skipped: ${skip}`);
const drilled = skip === null ? test : test.skip;

drilled(
  'the drill: handed over, handed on after a loss, and the lost founder back, with tasks running all the while',
  async () => {
    const net = lan(4);
    const mesh = new Mesh();
    /** Machines by what the page calls them, as the drill goes on. */
    const hosts = new Map(['hub', 'r1', 'r2', 'w1'].map((name, n) => [name, net.hosts[n]!]));
    const type = async (
      machine: string,
      command: string,
      words: Record<string, string> = {},
    ): Promise<Outcome> => {
      const [bin = '', ...args] = command.split(' ').map((word) => words[word] ?? word);
      const done = await run([join(ROOT, 'scripts', bin), ...args], {
        where: hosts.get(machine)!,
        env: { MESH_HOME: mesh.dir(machine) },
      });
      const log = `${mesh.dir(machine)}.log`;
      const said = existsSync(log) ? readFileSync(log, 'utf8').slice(-4_000) : '';
      assert.is(done.code, 0, `${machine}: ${command}\n${done.stdout}${done.stderr}\n${said}`);
      return done;
    };
    /** What is only asked goes by the socket: a command each time would be most of the work. */
    const clientOf = (machine: string): Client =>
      new Client({ dir: mesh.dir(machine), startHint: 'mesh-node start' });
    const status = async (machine: string): Promise<MeshObject | null> => {
      return clientOf(machine)
        .get<MeshObject>('/v1/status')
        .catch(() => null);
    };
    const online = async (machine: string, name: string): Promise<boolean> => {
      const node = await clientOf(machine)
        .get<NodeObject>(`/v1/nodes/${name}`)
        .catch(() => null);
      if (node === null) return false;
      return node.state === 'online' && (!node.roles.includes('replica') || node.lag === 0);
    };
    const task = async (machine: string, argv: string): Promise<string> =>
      (await type(machine, `mesh-hub task run --no-repo -- ${argv}`)).stdout.trim();
    const delivered = (machine: string, id: string): Promise<number> =>
      until(async () => {
        const detail = await clientOf(machine)
          .get<TaskDetail>(`/v1/tasks/${id}`)
          .catch(() => null);
        if (detail === null) return false;
        assert.ok(!['failed', 'cancelled', 'rejected'].includes(detail.state), JSON.stringify(detail));
        return detail.state === 'delivered';
      }, `${id} is delivered`);
    try {
      const founder = await mesh.founder({ where: hosts.get('hub')!, args: [] });
      await mesh.member('w1', { where: hosts.get('w1')! });
      // "Before": two replicas, as the page has it.
      for (const name of ['r1', 'r2']) {
        let token = '';
        for (const { where, command } of drill('Before')) {
          if (where === 'the founder' && command.startsWith('mesh-hub invite')) {
            token = (await type('hub', `${command} --role operator`)).stdout.trim();
          } else if (command.startsWith('mesh-node join')) {
            await type(name, `${command} --name ${name}`, { TOKEN: token });
          } else {
            await until(() => online('hub', name), `${name} is in step`);
            await type('hub', command, { NODE: name });
          }
        }
      }
      const first = [await task('hub', 'sleep 4'), await task('hub', 'sleep 1'), await task('hub', 'true')];
      for (const { where, command } of drill('The founder shall be another machine')) {
        const machine = where === 'the founder' ? 'hub' : 'r2';
        if (machine === 'r2') await until(async () => (await status('r2'))?.epoch === 2, 'r1 leads');
        await type(machine, command, { NODE: 'r1' });
      }
      for (const id of first) await delivered('r1', id);
      await until(() => online('r1', 'hub'), 'the founder of before follows');
      await until(() => online('r1', 'r2'), 'r2 follows');

      // r1 is lost, with its power.
      const second = [await task('r1', 'sleep 2'), await task('r1', 'true')];
      await until(() => online('r1', 'r2'), 'r2 has them');
      const { pid } = JSON.parse(readFileSync(join(mesh.dir('r1'), 'run', 'process.json'), 'utf8')) as {
        pid: number;
      };
      process.kill(pid, 'SIGKILL');
      const killedAt = performance.now();
      for (const { command } of drill('The founder is lost')) {
        await type('r2', command, { FILE: join(mesh.home, 'recovery.key') });
      }
      assert.is((await status('r2'))?.epoch, 3);
      for (const id of second) await delivered('r2', id);
      console.log(
        `founder lost, promoted, queue done: ${Math.round(performance.now() - killedAt)} ms, typed without a pause`,
      );

      for (const { command } of drill('The lost founder comes back')) {
        await type('r1', command);
      }
      await until(() => online('r2', 'r1'), 'the lost founder follows');
      await delivered('r2', await task('r2', 'true'));
      assert.ok(!founder.exited, 'the first founder is still the same process');
    } finally {
      for (const name of ['r1', 'r2']) {
        await run([join(ROOT, 'scripts/mesh-node'), 'stop'], {
          where: hosts.get(name)!,
          env: { MESH_HOME: mesh.dir(name) },
        });
      }
      await mesh.close();
      net.close();
    }
  },
);

test.run();
