import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AttemptResult } from '../../../protocol/session.ts';
import type { CommandSpecInput } from '../../../protocol/task.ts';
import { hostile, member, repository, world } from './hostile.ts';

/** What a hostile submitter may send as the repository. A verifier meets the same in results (verify.test.ts). */
async function withBundle(
  bytes: Buffer,
  commit: string,
  spec: Partial<CommandSpecInput> = {},
): Promise<AttemptResult> {
  const { blob } = await world.founder.put(bytes);
  const full = { kind: 'command' as const, argv: ['true'], ...spec };
  const bundle = { commit, bundle: blob, prerequisites: [] };
  const assignment = await world.assignment(full, { repository, base: commit, bundles: [bundle] });
  const { result } = await member.run(assignment);
  await member.runner.close();
  return result;
}

/** A bundle of a tree that host git makes of given lines of `git mktree`. */
function bundleOfTree(
  name: string,
  make: (git: (input: string | Buffer, ...args: string[]) => string) => string,
): [Buffer, string] {
  const own = world.repository(name);
  const git = (input: string | Buffer, ...args: string[]): string => own.gitWith(input, ...args);
  const commit = own.git('commit-tree', make(git), '-m', 'x');
  own.git('update-ref', 'refs/heads/x', commit);
  const path = join(world.folder, `${name}.bundle`);
  own.git('bundle', 'create', '-q', path, 'refs/heads/x');
  return [readFileSync(path), commit];
}

hostile('a small bundle that unpacks to gigabytes is refused before it is written', async () => {
  const [bytes, commit] = bundleOfTree('bomb', (git) => {
    const blob = git(Buffer.alloc(100 * 1024 * 1024), 'hash-object', '-w', '--stdin');
    return git(Array.from({ length: 100 }, (_, at) => `100644 blob ${blob}\tz${at}\n`).join(''), 'mktree');
  });
  assert.ok(bytes.length < 2_000_000);
  const result = await withBundle(bytes, commit);
  assert.is(result.reason, 'refused');
  assert.is(result.fault, 'task');
  assert.match(result.detail ?? '', /unpacks to more than fits/);
});

hostile('a tree of trees that names a billion files is refused', async () => {
  const [bytes, commit] = bundleOfTree('tree-bomb', (git) => {
    let object = git('x', 'hash-object', '-w', '--stdin');
    let kind = '100644 blob';
    for (let depth = 0; depth < 9; depth += 1) {
      object = git(Array.from({ length: 10 }, (_, at) => `${kind} ${object}\tf${at}\n`).join(''), 'mktree');
      kind = '040000 tree';
    }
    return object;
  });
  assert.ok(bytes.length < 10_000);
  const result = await withBundle(bytes, commit);
  assert.match(result.detail ?? '', /unpacks to more than fits/);
});

hostile(
  'a bundle that is corrupt, cut off, empty or full of something else is refused with a reason',
  async () => {
    const [good, commit] = bundleOfTree('plain', (git) =>
      git(`100644 blob ${git('x', 'hash-object', '-w', '--stdin')}\tx\n`, 'mktree'),
    );
    const flipped = Buffer.from(good);
    flipped[good.length - 25]! ^= 0xff;
    const refs = Buffer.from(
      good.toString('latin1').replace('\n\n', `\n${commit} refs/heads/y\n\n`),
      'latin1',
    );
    for (const [name, bytes] of Object.entries({
      flipped,
      cut: good.subarray(0, -30),
      empty: Buffer.alloc(0),
      text: Buffer.from('# v2 git bundle\n'),
      refs,
    })) {
      const result = await withBundle(bytes, commit);
      assert.is(result.reason, 'refused', `${name}: ${result.detail}`);
      assert.is(result.fault, 'task', name);
      assert.match(result.detail ?? '', /bundle/, name);
    }
    const result = await withBundle(good, commit);
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
  },
);

hostile('a bundle that lacks objects, or whose tree holds .git or .., is refused', async () => {
  const raw = (entries: [string, string, string][]): Buffer =>
    Buffer.concat(
      entries.flatMap(([mode, name, object]) => [
        Buffer.from(`${mode} ${name}\0`),
        Buffer.from(object, 'hex'),
      ]),
    );
  for (const name of ['.git', '..', '.GIT', 'git~1', '.', 'a/b', '../../escape']) {
    const [bytes, commit] = bundleOfTree(`bad-${Buffer.from(name).toString('hex')}`, (git) => {
      const blob = git('x', 'hash-object', '-w', '--stdin');
      return git(raw([['100644', name, blob]]), 'hash-object', '-w', '-t', 'tree', '--literally', '--stdin');
    });
    const result = await withBundle(bytes, commit);
    assert.is(result.reason, 'refused', `${name}: ${result.outcome} ${result.detail}`);
  }
  const own = world.repository('lacking');
  await own.commit({ x: 'the first' });
  const second = await own.commit({ x: 'the second' });
  own.git('update-ref', 'refs/heads/x', second);
  const path = join(world.folder, 'lacking.bundle');
  own.git('bundle', 'create', '-q', path, 'refs/heads/x', '^main~1');
  const bytes = await readFile(path);
  const header = bytes.toString('latin1').replace(/^-.*\n/m, '');
  const result = await withBundle(Buffer.from(header, 'latin1'), second);
  assert.is(result.reason, 'refused', result.detail ?? '');
});

test.run();
