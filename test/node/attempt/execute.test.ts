import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LocalAttemptRunner } from '../../../node/attempt/run.ts';
import { acceptReceipt } from '../../../protocol/acceptance.ts';
import { leaseKey } from '../../../protocol/session.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, MESH, Member, World } from './harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;
const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  'test.sh': '[ "$(sh greet.sh)" = Hello ]\n',
  'src/a.txt': 'a\n',
});
const member = await Member.open(join(world.folder, 'member'), world.founder);
test.after(async () => {
  await member.runner.close();
  await world.remove();
});

const source = { repository, base };

it('a task comes back as one commit on its branch, with log, bundle and a receipt that counts (promise 12)', async () => {
  const assignment = await world.assignment(
    { kind: 'command', argv: ['sed', '-i', 's/Helo/Hello/', 'greet.sh'], checks: ['sh test.sh'] },
    source,
  );
  const { result, seen, log } = await member.run(assignment);
  assert.is(result.detail, null);
  assert.is(result.outcome, 'succeeded');
  assert.equal(seen.phases, ['fetch', 'prepare', 'run', 'check', 'converge']);
  assert.is(seen.started, 1);
  assert.equal(seen.fetched, [assignment.bundles[0]?.bundle]);
  assert.match(log, /the command: sed -i s\/Helo\/Hello\/ greet\.sh/);
  assert.is(seen.output, log);

  const { facts } = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  assert.equal(facts.checks, [{ line: 'sh test.sh', exitCode: 0 }]);
  assert.equal(facts.checksChanged, []);

  const path = join(world.folder, 'result.bundle');
  await writeFile(path, await bytesOf(member.blobs, result.bundle!));
  const branch = `refs/heads/mesh/${assignment.task}`;
  repository.git('fetch', '-q', path, `${branch}:${branch}`);
  assert.is(repository.git('rev-parse', branch), result.commit);
  assert.is(repository.git('rev-parse', `${branch}^`), base);
  assert.is(repository.git('diff', '--stat', base, branch).split('\n').length, 2);
  assert.is(
    repository.git(
      'log',
      '-1',
      '--format=%an %ae|%(trailers:key=Superfleet-Task,valueonly,separator=)',
      branch,
    ),
    `Superfleet (spare-1) spare-1@superfleet.invalid|${assignment.task}`,
  );
  assert.equal(await member.leftBehind(), [leaseKey(result), `${leaseKey(result)}/result.json`]);
  await member.runner.forget(result);
  assert.equal(await member.leftBehind(), []);
  assert.is(await member.blobs.has(result.bundle!.blob), false);
});

it('an edit of the same size, in the same second and with its old times is still part of the commit', async () => {
  const edit = `touch -r greet.sh times && printf J | dd of=greet.sh conv=notrunc bs=1 seek=5 2>/dev/null &&
    touch -r times greet.sh && rm times`;
  const assignment = await world.assignment({ kind: 'command', argv: ['sh', '-c', edit] }, source);
  const { result } = await member.run(assignment);
  assert.is(result.detail, null);
  const path = join(world.folder, 'edit.bundle');
  await writeFile(path, await bytesOf(member.blobs, result.bundle!));
  const branch = `refs/heads/mesh/${assignment.task}`;
  repository.git('fetch', '-q', path, `${branch}:${branch}`);
  assert.is(repository.git('show', `${branch}:greet.sh`), 'echo Jelo');
  await member.runner.forget(result);
});

it('a second task on the same base fetches nothing and starts the sandbox four times', async () => {
  const bundles = [await world.bundle(repository, base)];
  await member.run(await world.assignment({ kind: 'command', argv: ['true'] }, { ...source, bundles }));
  const before = member.sandbox.starts.length;
  const again = await world.assignment(
    { kind: 'command', argv: ['touch', 'x'], checks: ['true'] },
    { ...source, bundles },
  );
  const { seen, result } = await member.run(again);
  assert.is(result.outcome, 'succeeded');
  assert.equal(seen.fetched, []);
  assert.is(member.sandbox.starts.length - before, 4);
});

it('a chain of bundles leads to the base', async () => {
  const chain = world.repository('chain');
  const first = await chain.commit({ a: '1\n', b: 'b\n'.repeat(1000) });
  const second = await chain.commit({ a: '2\n' });
  const third = await chain.commit({ a: '3\n', b: `${'b\n'.repeat(1000)}c\n` });
  const bundles = [
    await world.bundle(chain, first),
    await world.bundle(chain, second, [first]),
    await world.bundle(chain, third, [second]),
  ];
  for (const length of [2, 3]) {
    const commit = length === 2 ? second : third;
    const assignment = await world.assignment(
      { kind: 'command', argv: ['sh', '-c', 'cat a; git log --format=%s | wc -l; git status --short'] },
      { repository: chain, base: commit, bundles: bundles.slice(0, length) },
    );
    const { log, result, seen } = await member.run(assignment);
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
    assert.match(log, new RegExp(`\n${length}\n${length}\n`));
    assert.is(seen.fetched.length, length === 2 ? 2 : 1);
  }
});

it('without a change there is no commit', async () => {
  const { result } = await member.run(
    await world.assignment({ kind: 'command', argv: ['sh', '-c', 'echo hi'] }, source),
  );
  assert.is(result.outcome, 'succeeded');
  assert.is(result.commit, null);
  assert.is(result.bundle, null);
});

it('without a repository there is an empty workspace, and artifacts and log are the result', async () => {
  const spec = {
    kind: 'command' as const,
    argv: ['sh', '-c', 'ls -A; mkdir out; echo made >out/file; echo no >other'],
    artifacts: ['out/*'],
    checks: ['test -s out/file'],
  };
  const { result, log } = await member.run(await world.assignment(spec, null));
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.is(result.commit, null);
  assert.equal(
    result.artifacts.map(({ path }) => path),
    ['out/file'],
  );
  assert.is((await bytesOf(member.blobs, result.artifacts[0]!)).toString(), 'made\n');
  assert.not.match(log, /\.git/);
});

it('what a check writes is not in the commit, and what git ignores is not either', async () => {
  const spec = {
    kind: 'command' as const,
    argv: ['sh', '-c', 'echo ignored >.gitignore; echo 1 >ignored; echo 2 >kept'],
    checks: ['echo 3 >kept; echo 4 >by-check'],
  };
  const assignment = await world.assignment(spec, source);
  const { result } = await member.run(assignment);
  const path = join(world.folder, 'checks.bundle');
  await writeFile(path, await bytesOf(member.blobs, result.bundle!));
  repository.git('fetch', '-q', path, `refs/heads/mesh/${assignment.task}:refs/heads/checks`);
  assert.is(repository.git('diff', '--name-only', base, 'checks'), '.gitignore\nkept');
  assert.is(repository.git('show', 'checks:kept'), '2');
});

it('a task that rewrites its check is judged by the check of the base, and the change is named', async () => {
  const spec = {
    kind: 'command' as const,
    argv: ['sh', '-c', 'echo exit 0 >test.sh'],
    checks: ['sh test.sh'],
  };
  const red = await member.run(await world.assignment(spec, source));
  assert.is(red.result.reason, 'check');
  assert.is(red.result.fault, 'task');
  assert.is(red.result.commit, null);
  assert.match(red.result.detail ?? '', /base's version of test\.sh/);

  const assignment = await world.assignment(
    { ...spec, argv: ['sh', '-c', 'rm test.sh; ln -s /dev/null test.sh; sed -i s/Helo/Hello/ greet.sh'] },
    source,
  );
  const { result } = await member.run(assignment);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  const { facts } = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  assert.equal(facts.checksChanged, ['test.sh']);
});

it('check files named by a glob come back even where the task made a folder or a link of their folder', async () => {
  const nested = world.repository('nested');
  const at = await nested.commit({ 'ci/run.sh': 'grep -q base ci/data/x\n', 'ci/data/x': 'base\n' });
  for (const script of [
    'rm -r ci; ln -s /tmp ci',
    'rm -r ci/data; mkdir -p ci/data/x/y; touch ci/data/x/y/z',
    'rm -r ci; echo file >ci',
  ]) {
    const assignment = await world.assignment(
      { kind: 'command', argv: ['sh', '-c', script], checks: ['sh ci/run.sh'], checkFiles: ['ci/**'] },
      { repository: nested, base: at },
    );
    const { result } = await member.run(assignment);
    assert.is(result.outcome, 'succeeded', `${script}: ${result.detail}`);
    const { facts } = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
    assert.ok(facts.checksChanged.length > 0, script);
  }
});

const endings: [
  name: string,
  spec: { argv: string[]; checks?: string[]; timeoutMs?: number; checkTimeoutMs?: number },
  reason: string,
  fault: string,
  detail: RegExp,
][] = [
  ['a command that exits with 3', { argv: ['sh', '-c', 'exit 3'] }, 'task', 'task', /exited with 3/],
  [
    'a command that is not there',
    { argv: ['no-such-tool', 'x'] },
    'environment',
    'machine',
    /no-such-tool.*spare-1.*Install/s,
  ],
  [
    'a tool that a shell cannot find',
    { argv: ['sh', '-c', 'frobnicate x'] },
    'environment',
    'machine',
    /could not start frobnicate on spare-1/,
  ],
  [
    'a red check',
    { argv: ['true'], checks: ['true', 'exit 4', 'true'] },
    'check',
    'task',
    /check 2 of 3 is red \(exit 4\)/,
  ],
  [
    'a check that cannot start',
    { argv: ['true'], checks: ['no-such-checker --all'] },
    'environment',
    'machine',
    /no-such-checker on spare-1/,
  ],
  [
    'a check without permission to run',
    { argv: ['true'], checks: ['./greet.sh'] },
    'environment',
    'machine',
    /greet\.sh on spare-1 \(exit 126/,
  ],
  [
    'a command past its time',
    { argv: ['sleep', '60'], timeoutMs: 300 },
    'timeout',
    'task',
    /the command was ended after its 300 ms/,
  ],
  [
    'a check past its time',
    { argv: ['true'], checks: ['sleep 60'], checkTimeoutMs: 300 },
    'timeout',
    'task',
    /check 1 of 1 was ended/,
  ],
];
for (const [name, spec, reason, fault, detail] of endings) {
  it(`${name} ends failed/${reason}, the fault of the ${fault}`, async () => {
    const assignment = await world.assignment({ kind: 'command', ...spec }, source);
    const { result } = await member.run(assignment);
    assert.is(result.outcome, 'failed');
    assert.is(result.reason, reason);
    assert.is(result.fault, fault);
    assert.match(result.detail ?? '', detail);
    assert.is(result.commit, null);
    assert.ok(result.log !== null && result.envelope !== null);
    acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  });
}

it('a secret reaches the command, not the checks, and is masked in log and live output, cut or not', async () => {
  const assignment = await world.assignment(
    {
      kind: 'command',
      argv: [
        'sh',
        '-c',
        'echo "$TOKEN" | wc -c; printf "%s" "$TOKEN"; printf hunt; sleep 0.1; echo er22; echo "$TOKEN" >&2; exit 0',
      ],
      checks: ['test -z "$TOKEN"'],
      secrets: ['TOKEN'],
    },
    source,
    { secrets: { TOKEN: 'hunter22' } },
  );
  const { result, log, seen } = await member.run(assignment);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.match(log, /\n9\n/);
  assert.not.match(log + seen.output + JSON.stringify(result), /hunter22/);
  assert.is(log.split('***').length - 1, 3);
});

it('a secret in the changes or in an artifact: nothing is returned', async () => {
  for (const [script, artifacts] of [
    ['echo "x$TOKEN" >file', []],
    ['mkdir "$TOKEN"; touch "$TOKEN/x"', []],
    ['ln -s "$TOKEN" link', []],
    ['echo out >.gitignore; echo "$TOKEN" >out', ['out']],
    ['echo "$TOKEN" >.gitignore; touch "$TOKEN"', ['hunter*']],
  ] as const) {
    const assignment = await world.assignment(
      { kind: 'command', argv: ['sh', '-c', script], secrets: ['TOKEN'], artifacts: [...artifacts] },
      source,
      { secrets: { TOKEN: 'hunter22' } },
    );
    const { result } = await member.run(assignment);
    assert.is(result.reason, 'task', script);
    assert.match(result.detail ?? '', /secret TOKEN/);
    assert.is(result.bundle, null);
    assert.equal(result.artifacts, []);
    assert.not.match(JSON.stringify(result), /hunter22/);
  }
  await member.runner.close();
  assert.equal(await filesHolding(member.folder, 'hunter22'), []);
});

it('a flood of output is cut in the log, counted, and says so (promise 18)', async () => {
  const assignment = await world.assignment(
    { kind: 'command', argv: ['sh', '-c', 'head -c 80000000 /dev/zero | tr "\\0" x'] },
    null,
  );
  let live = 0;
  const { result } = await member.run(assignment, undefined, {
    output: (bytes) => {
      live += bytes.length;
    },
  });
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  const log = await bytesOf(member.blobs, result.log!);
  assert.ok(log.length < 65 * 1024 * 1024 && log.length >= 64 * 1024 * 1024);
  assert.match(log.subarray(-200).toString(), /the log is cut here: \d{8} more bytes/);
  assert.ok(live <= 64 * 1024 * 1024);
});

it('an aborted attempt rejects, and leaves no process and no file', async () => {
  for (const when of ['fetch', 'run', 'check'] as const) {
    const spec = {
      kind: 'command' as const,
      argv: ['sh', '-c', when === 'run' ? 'sleep 600' : 'true'],
      checks: ['sleep 600'],
    };
    const fresh = world.repository(`abort-${when}`);
    const assignment = await world.assignment(spec, {
      repository: fresh,
      base: await fresh.commit({ a: when }),
    });
    const stop = new AbortController();
    const hooks = {
      progress: (phase: string) =>
        void (phase === when && when !== 'fetch' && setTimeout(() => stop.abort(new Error('stop')), 100)),
      ...(when === 'fetch'
        ? { fetch: () => new Promise<void>(() => setImmediate(() => stop.abort(new Error('stop')))) }
        : {}),
    };
    let rejected: unknown = null;
    await member.run(assignment, stop.signal, hooks).catch((error: unknown) => {
      rejected = error;
    });
    assert.is((rejected as Error | null)?.message, 'stop', when);
    assert.not(existsSync(join(member.folder, 'attempts', leaseKey(assignment))));
  }
});

it('a result survives a restart, until it is settled; left-overs of a crash do not', async () => {
  const folder = join(world.folder, 'restarted');
  const one = await Member.open(folder, world.founder);
  const { result } = await one.run(
    await world.assignment({ kind: 'command', argv: ['touch', 'new'] }, source),
  );
  await one.runner.close();
  await one.blobs.close();
  await mkdir(join(folder, 'attempts/zzzzzzzzzzzz.1.1/work/workspace'), { recursive: true });
  await writeFile(join(folder, 'attempts/zzzzzzzzzzzz.1.1/result.json.new'), '{');

  const two = await Member.open(folder, world.founder);
  assert.equal(await two.runner.restoreResults(), [result]);
  assert.equal(await readdir(join(folder, 'attempts')), [leaseKey(result)]);
  assert.ok(await two.blobs.has(result.bundle!.blob));
  await two.runner.forget(result);
  assert.equal(await two.runner.restoreResults(), []);
  await two.runner.close();
});

it('two results that share a blob: it goes with the last of them', async () => {
  const spec = { kind: 'command' as const, argv: ['sh', '-c', 'echo same >out'], artifacts: ['out'] };
  const one = await member.run(await world.assignment(spec, null));
  const two = await member.run(await world.assignment(spec, null));
  const blob = one.result.artifacts[0]!.blob;
  assert.is(two.result.artifacts[0]!.blob, blob);
  await member.runner.forget(one.result);
  assert.ok(await member.blobs.has(blob));
  await member.runner.forget(two.result);
  assert.not(await member.blobs.has(blob));
});

it('the cache may be deleted or damaged at any time', async () => {
  const bundles = [await world.bundle(repository, base)];
  const repos = join(member.folder, 'repos');
  const task = async (script: string, started = (): void => {}): Promise<void> => {
    const assignment = await world.assignment(
      { kind: 'command', argv: ['sh', '-c', script] },
      { ...source, bundles },
    );
    const { result } = await member.run(assignment, undefined, { started });
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
  };
  await task('cat greet.sh; touch x');
  await task('sleep 0.3; git show HEAD:greet.sh; touch y', () => rmSync(repos, { recursive: true }));
  await task('touch z');

  const entry = join(repos, `${repository.root}.git`, bundles[0]!.bundle);
  const pack = join(entry, (await readdir(entry)).find((name) => name.endsWith('.pack')) ?? '');
  const bytes = await readFile(pack);
  await rm(pack);
  await writeFile(pack, bytes.fill(0, 12));
  await task('cat greet.sh; touch x');
});

it('the cache keeps to its bounds, the least recently used bundle goes first', async () => {
  const folder = join(world.folder, 'bounded');
  const small = await Member.open(folder, world.founder);
  await small.runner.close();
  small.runner = await LocalAttemptRunner.open({
    folder,
    sandbox: small.sandbox,
    blobs: small.blobs,
    mesh: MESH,
    member: { id: executorKey.peer, name: 'spare-1' },
    sign: (statement) => signStatement(statement, executorKey),
    cache: { entriesMax: 2 },
  });
  const fetched: number[] = [];
  const own = world.repository('bounded-repo');
  const commits = [await own.commit({ a: '1' }), await own.commit({ a: '2' }), await own.commit({ a: '3' })];
  const bundles = await Promise.all(commits.map((commit) => world.bundle(own, commit)));
  for (const index of [0, 1, 0, 2, 0, 1]) {
    const assignment = await world.assignment(
      { kind: 'command', argv: ['true'] },
      { repository: own, base: commits[index]!, bundles: [bundles[index]!] },
    );
    const { result } = await small.run(assignment);
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
    fetched.push((await readdir(join(folder, 'repos', `${own.root}.git`))).length);
  }
  assert.equal(fetched, [1, 2, 2, 2, 2, 2]);
  await small.runner.close();
});

it('tasks on one repository at once fetch its bundle once', async () => {
  const own = world.repository('at-once');
  const at = await own.commit({ a: 'x\n' });
  const bundles = [await world.bundle(own, at)];
  const runs = await Promise.all(
    [1, 2, 3].map(async (n) =>
      member.run(
        await world.assignment(
          { kind: 'command', argv: ['sh', '-c', `echo ${n} >a`] },
          { repository: own, base: at, bundles },
        ),
      ),
    ),
  );
  assert.equal(
    runs.map(({ result }) => result.outcome),
    ['succeeded', 'succeeded', 'succeeded'],
  );
  assert.is(new Set(runs.map(({ result }) => result.commit)).size, 3);
  assert.is(runs.flatMap(({ seen }) => seen.fetched).length, 1);
});

it("a fetch that fails is the machine's fault and nothing is signed", async () => {
  const own = world.repository('unfetched');
  const assignment = await world.assignment(
    { kind: 'command', argv: ['true'] },
    { repository: own, base: await own.commit({ a: '1' }) },
  );
  const { result } = await member.run(assignment, undefined, {
    fetch: async () => Promise.reject(new Error('the founder is gone')),
  });
  assert.is(result.reason, 'environment');
  assert.is(result.fault, 'machine');
  assert.match(result.detail ?? '', /the founder is gone/);
  assert.is(result.envelope, null);
});

it('a receipt that cannot hold all names fails the task in words', async () => {
  const script = 'mkdir -p out; for i in $(seq 250); do : >out/$i-$(printf "%0240d" 0); done';
  const assignment = await world.assignment(
    { kind: 'command', argv: ['sh', '-c', script], artifacts: ['out/*'] },
    null,
  );
  const { result } = await member.run(assignment);
  assert.is(result.reason, 'task');
  assert.match(result.detail ?? '', /too large to be signed/);
  assert.ok(result.envelope !== null);
});

it('SHA-256 repositories work too', async () => {
  const path = join(world.folder, 'sha256');
  const own = world.repository('sha256-shell');
  own.git('init', '-q', '-b', 'main', '--object-format=sha256', path);
  Object.assign(own, { path });
  const at = await own.commit({ a: 'x\n' });
  assert.is(at.length, 64);
  const assignment = await world.assignment(
    { kind: 'command', argv: ['sh', '-c', 'echo y >a; git status --short'] },
    { repository: own, base: at },
  );
  const { result } = await member.run(assignment);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  const bundle = join(world.folder, 'sha256.bundle');
  await writeFile(bundle, await bytesOf(member.blobs, result.bundle!));
  own.git('fetch', '-q', bundle, `refs/heads/mesh/${assignment.task}:refs/heads/x`);
  assert.is(own.git('show', 'x:a'), 'y');
});

async function filesHolding(folder: string, text: string): Promise<string[]> {
  const holding: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.name.includes(text)) holding.push(path);
    else if (entry.isFile() && (await readFile(path)).includes(text)) holding.push(path);
  }
  return holding;
}

test.run();
