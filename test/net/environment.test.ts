// limit: 120 s
/** What a repository depends on, prepared by real daemons: executor and verifier, each for itself and once. */
import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../node/api/objects.ts';
import { Fleet } from './fleet.ts';
import { greeter } from './mesh.ts';

const fleet = await Fleet.start({ hub: { slots: 0 }, members: { one: { slots: 1 }, two: { slots: 1 } } });
const repository = await greeter(join(fleet.home, 'project'));
test.after(() => fleet.close());

const environments = (name: string): string[] =>
  readdirSync(join(fleet.dir(name), 'environments')).filter((entry) => entry !== '.runtime');

test('a command and its checks, on another machine too, find what the manifest prepares', async () => {
  const manifest =
    'prepare: ["mkdir -p made/bin && echo echo from made >made/bin/made-tool && chmod +x made/bin/made-tool"]\ncache: [made]\n' +
    'checks: [\'[ "$(made-tool)" = "from made" ]\']\nlimits: {timeout: 5m}\n';
  writeFileSync(join(repository, '.superfleet.yaml'), manifest);
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.invalid', ...args], {
      cwd: repository,
    });
  git('add', '.superfleet.yaml');
  git('commit', '-qm', 'a manifest');
  for (let run = 0; run < 2; run += 1) {
    const sent = await fleet.hub(
      ['task', 'run', '--wait', '--json', '--', 'sh', '-c', 'made-tool >out.txt'],
      { cwd: repository },
    );
    assert.is(sent.code, 0, sent.stderr);
    const task = JSON.parse(sent.stdout) as TaskDetail;
    assert.is(task.verified, true);
    assert.equal([task.spec.checks.length, task.spec.timeoutMs], [1, 300_000]);
    assert.match(sent.stderr, 'note: checks of .superfleet.yaml: ');
    const names = execFileSync('git', ['ls-tree', '--name-only', task.commit!], {
      cwd: repository,
      encoding: 'utf8',
    });
    assert.match(names, /out\.txt/);
    assert.not.match(names, /made/);
  }
  assert.equal([environments('one').length, environments('two').length], [1, 1]);
});

test.run();
