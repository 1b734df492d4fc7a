// limit: 150 s
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../net/mesh.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const logFolders = () =>
  readdirSync(tmpdir()).filter((name) => /^superfleet-bench-(append|log|replicate|snapshots)-/.test(name));
const bench = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  run([process.execPath, 'scripts/bench.ts', ...args], { cwd: ROOT, env });

test('a figure is printed as the outside contract says, and nothing else on stdout', async () => {
  const small = { BENCH_JOIN_MEMBERS: '6', BENCH_JOIN_RUNS: '1' };
  const { code, stdout, stderr } = await bench(['join', '--json'], small);
  assert.is(code, 0, stderr);
  const figures = JSON.parse(stdout) as Record<string, unknown>[];
  assert.equal(
    figures.map(({ figure, unit, runs }) => ({ figure, unit, runs })),
    [
      { figure: 'join.rate', unit: '/s', runs: 1 },
      { figure: 'join.memory', unit: 'MB', runs: 1 },
    ],
  );
  for (const one of figures) {
    assert.equal(Object.keys(one).sort(), ['figure', 'ours', 'peer', 'ratio', 'runs', 'unit']);
    assert.type(one.ours, 'number');
    assert.is(one.peer, null);
    assert.is(one.ratio, null);
  }
  assert.ok((figures[0]?.ours as number) > 0);
});

test('replay reads the whole log it wrote, and leaves no folder behind', async () => {
  const small = { BENCH_REPLAY_ENTRIES: '3000', BENCH_REPLAY_RUNS: '1' };
  const before = logFolders();
  const { code, stdout, stderr } = await bench(['replay', '--json'], small);
  assert.is(code, 0, stderr);
  const figures = JSON.parse(stdout) as Record<string, unknown>[];
  assert.equal(
    figures.map(({ figure, unit, runs }) => ({ figure, unit, runs })),
    [
      { figure: 'replay.cpu', unit: 's', runs: 1 },
      { figure: 'replay.memory', unit: 'MB', runs: 1 },
      { figure: 'replay.restart', unit: 'ms', runs: 1 },
      { figure: 'replay.restart@0', unit: 'ms', runs: 1 },
    ],
  );
  assert.match(stderr, /3000 entries in \d+ batches/);
  assert.equal(logFolders(), before);
});

test('plan draws what it measured where it is asked to', async () => {
  const plots = mkdtempSync(join(tmpdir(), 'superfleet-plots-'));
  try {
    const small = {
      BENCH_PLAN_SMALL: '1',
      BENCH_PLAN_RUNS: '1',
      BENCH_PLAN_DECISIONS: '50',
      BENCH_PLOTS: plots,
    };
    const { code, stdout, stderr } = await bench(['plan', '--json', '--plot'], small);
    assert.is(code, 0, stderr);
    const figures = JSON.parse(stdout) as { figure: string }[];
    assert.equal(
      figures.map(({ figure }) => figure),
      ['plan.mean@10x10', 'plan.mean@100x10', 'plan.mean@10x20', 'plan.mean'],
    );
    assert.is(readFileSync(join(plots, 'plan.svg'), 'utf8').match(/<circle/g)?.length, 4);
  } finally {
    rmSync(plots, { recursive: true });
  }
});

test('turn carries a conversation to its end', async () => {
  const { code, stdout, stderr } = await bench(['turn', '--json'], {
    BENCH_TURN_TURNS: '4',
    BENCH_TURN_RUNS: '1',
  });
  assert.is(code, 0, stderr);
  const [figure, ...more] = JSON.parse(stdout) as { figure: string; unit: string; ours: number }[];
  assert.equal([figure?.figure, figure?.unit, more.length], ['turn.own', 'ms', 0]);
  assert.ok(figure!.ours > 0);
});

test('without --json the figures are a table', async () => {
  const { code, stdout } = await bench(['join'], { BENCH_JOIN_MEMBERS: '2', BENCH_JOIN_RUNS: '1' });
  assert.is(code, 0);
  assert.match(stdout, /^figure +ours +peer +ratio +unit +runs\njoin\.rate +[\d.]+ +– +– +\/s +1\n/);
});

test('appends are measured against bare calls and hypercore', async () => {
  const { code, stdout, stderr } = await bench(['append', '--json'], {
    BENCH_APPEND_ENTRIES: '16',
    BENCH_APPEND_RUNS: '1',
  });
  assert.is(code, 0, stderr);
  const figures = JSON.parse(stdout) as { figure: string; ours: number; peer: number; ratio: number }[];
  assert.equal(
    figures.map(({ figure }) => figure),
    ['append.single', 'append.stall', 'append.concurrent'],
  );
  for (const { figure, ours, peer, ratio } of figures) {
    assert.ok(ours >= 0 && peer > 0, figure);
    assert.is(ratio, ours / peer);
  }
});

test('a replica of ours and one of hypercore catch up, each a process of its own', async () => {
  const before = logFolders();
  const { code, stdout, stderr } = await bench(['replicate', '--json'], {
    BENCH_REPLICATE_ENTRIES: '1500',
    BENCH_REPLICATE_RUNS: '1',
  });
  assert.is(code, 0, stderr);
  const figures = JSON.parse(stdout) as { figure: string; ours: number; peer: number; ratio: number }[];
  assert.equal(
    figures.map(({ figure }) => figure),
    ['replicate.rate', 'replicate.cpu'],
  );
  for (const { figure, ours, peer, ratio } of figures) {
    assert.ok(ours > 0 && peer > 0, figure);
    assert.is(ratio, ours / peer);
  }
  assert.equal(logFolders(), before);
});

test('env runs tasks on a prepared repository and on a bare one', async () => {
  const { code, stdout, stderr } = await bench(['env', '--json'], { BENCH_ENV_RUNS: '1' });
  assert.is(code, 0, stderr);
  const [figure, ...more] = JSON.parse(stdout) as { figure: string; unit: string; ours: number }[];
  assert.equal([figure?.figure, figure?.unit, more.length], ['env.warm', 'ms', 0]);
  assert.match(stderr, /env warm: \d+ ms[\s\S]*env bare: \d+ ms/);
});

test('an unknown name and none at all are wrong usage, exit 2, with the names there are', async () => {
  for (const args of [['nothing'], [], ['--json'], ['join', 'nothing', '--json']]) {
    const { code, stdout, stderr } = await bench(args);
    assert.is(code, 2, args.join(' '));
    assert.is(stdout, '');
    assert.match(stderr, /expected a name of .*join.*task/);
  }
});

test.run();
