// limit: 150 s
import { chmodSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeObject } from '../../node/api/objects.ts';
import { Fleet } from './fleet.ts';
import { isRoot, type Outcome, run } from './mesh.ts';
import { ScriptedModelServer } from './scripted-model-server.ts';

/** No bubblewrap: what is there under its names cannot be run. */
const HIDE_BWRAP =
  'for one in /usr/bin/bwrap /usr/local/bin/bwrap; do [ -e "$one" ] && mount --bind /dev/null "$one"; done; exec "$@"';
/** What macOS has not: bubblewrap, /proc, /sys. Nor is its user root. */
const HIDE_LINUX = `mount -t tmpfs tmpfs /sys && mount -t tmpfs tmpfs /proc && exec setpriv --reuid=64717 --regid=64717 --clear-groups sh -c 'exec "$@"' sh "$@"`;

const SENTENCE = /takes no tasks \((.*)\): it serves models, and keeps the log where it is made a replica/;

if (!isRoot) console.log('skipped: to hide a program from a process needs root');
else {
  const ollama = await ScriptedModelServer.listen('ollama', ['llama3:8b']);
  const fleet = await Fleet.start({ hub: { slots: 1 } });
  test.after(async () => {
    await fleet.node('bare', ['stop']);
    await bare('mac', 'macOS', ['stop']);
    await fleet.close();
    await ollama.close();
  });

  /** `mesh-node` of a machine without a sandbox. */
  const bare = (name: string, system: 'Linux' | 'macOS', args: string[]): Promise<Outcome> => {
    const hide = system === 'Linux' ? HIDE_BWRAP : HIDE_LINUX;
    const preload = resolve(import.meta.dirname, 'as-darwin.ts');
    return run(
      ['unshare', '--mount', 'sh', '-c', hide, 'sh', join(fleet.program, 'scripts', 'mesh-node'), ...args],
      {
        env: {
          MESH_HOME: fleet.dir(name),
          ...(system === 'macOS' ? { NODE_OPTIONS: `--import=${preload}`, HOME: fleet.dir(name) } : {}),
        },
      },
    );
  };

  for (const [name, system, lack] of [
    ['bare', 'Linux', 'bubblewrap is not installed'],
    ['mac', 'macOS', 'macOS has no sandbox of equal strength'],
  ] as const) {
    test(`${system} without a sandbox joins as a model server, said in one sentence at join, start and status`, async () => {
      fleet.configure(name, {});
      // The data folder is of whoever runs it, as on a Mac.
      if (system === 'macOS') assert.is((await run(['chown', '-R', '64717:64717', fleet.dir(name)])).code, 0);
      chmodSync(fleet.home, 0o777);
      const { token } = await fleet.json<{ token: string }>(['invite']);
      const joined = await bare(name, system, ['join', token, '--name', name, '--port', '0', '--detach']);
      assert.is(joined.code, 0, joined.stderr);
      assert.match(joined.stdout, new RegExp(`^ready: ${name} `));
      const says = (outcome: Outcome): void => {
        assert.is(outcome.code, 0, outcome.stderr);
        assert.is(SENTENCE.exec(outcome.stdout + outcome.stderr)?.[1], lack);
      };
      says(joined);
      says(await bare(name, system, ['status']));
      assert.is((await bare(name, system, ['stop'])).code, 0);
      says(await bare(name, system, ['start', '--port', '0', '--detach']));
      const doctor = await bare(name, system, ['doctor']);
      assert.is(doctor.code, 6, 'doctor says that it runs no tasks');
      assert.match(doctor.stdout, new RegExp(lack));

      const lent = await bare(name, system, ['models', 'add', ollama.url]);
      assert.is(lent.stdout, `lends ${ollama.url}: llama3:8b\n`);
      const shown = await fleet.client.get<NodeObject>(`/v1/nodes/${name}`);
      assert.ok(shown.models.includes('llama3:8b'), shown.models.join());
      assert.equal(shown.slots, { used: 0, total: 0 });
      assert.is(shown.work, 'has no working sandbox');
    });
  }

  test('no task is ever sent there, and why says so; nor is it waited for to verify', async () => {
    const asked = await fleet.submit(['true'], { on: 'bare' });
    const why = await fleet.hub(['task', 'why', asked]);
    assert.match(why.stdout, /^bare +has no working sandbox$/m);
    assert.match(why.stdout, /^mac +is not bare$/m);
    const repository = await fleet.repository();
    const began = performance.now();
    const checked = await fleet.submit(['sh', '-c', 'true'], { repository, checks: ['true'] });
    const task = await fleet.ended(checked);
    assert.is(task.state, 'delivered');
    assert.is(task.executor?.name, 'hub');
    assert.match(task.detail ?? '', /no other party that may verify/);
    assert.ok(performance.now() - began < 30_000, 'it is told at once');
    assert.not.ok(
      fleet.entries.some(({ type, body }) => type === 'attempt.assigned' && body.task === asked),
      'nothing was sent',
    );
    await fleet.client.post(`/v1/tasks/${asked}/stop`);
  });
}

test.run();
