import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { z } from 'zod';
import { fitsOf } from '../../protocol/fits.ts';
import { founderMessage, memberMessage } from '../../protocol/session.ts';
import { encodeSigned, signBatch, signedStatement } from '../../protocol/statement.ts';
import { type TaskSpec, taskSpec } from '../../protocol/task.ts';
import { digestOf, keys, mesh, receipt, spec } from './samples.ts';

const HEX = 'ab'.repeat(32);
const lease = { task: receipt.task, attempt: 1, epoch: 1 };
const blob = { blob: HEX, bytes: 5, sha256: HEX };
const statements = [1, 2, 3].map((n) => Buffer.from(`statement ${n}`));
const bundle = { commit: 'c0'.repeat(20), bundle: HEX, prerequisites: [] };
const capacity = {
  slots: 2,
  sandbox: 'bubblewrap',
  limits: { memory: 'cgroup', processes: 'nproc', disk: 'watched' },
  memoryBytes: 1,
  cpus: 2,
  diskFreeBytes: 3,
  models: ['m'],
  tools: { git: '2' },
  labels: { room: '7' },
  ownerPaused: false,
};
const result = {
  ...lease,
  role: 'execute',
  correlation: 'c',
  outcome: 'succeeded',
  reason: null,
  fault: null,
  detail: null,
  exitCode: 0,
  commit: 'c0'.repeat(20),
  bundle: blob,
  log: null,
  artifacts: [{ path: 'a', ...blob }],
  envelope: encodeSigned(signBatch(statements, keys.executor)[0]!),
};
const assignment = {
  ...lease,
  role: 'execute',
  correlation: 'c',
  spec,
  bundles: [bundle],
  nonce: '1'.repeat(32),
  secrets: { TOKEN: 'x' },
  verify: null,
};

const SAMPLES: [z.ZodType, unknown[]][] = [
  [
    memberMessage,
    [
      { type: 'heartbeat', sequence: 4 },
      { type: 'heartbeat', sequence: 4, time: 5 },
      { type: 'capacity', capacity },
      { type: 'started', ...lease, correlation: 'c' },
      { type: 'progress', ...lease, correlation: 'c', phase: 'run', logBytes: 3, suspended: true },
      { type: 'result', result },
      { type: 'stopped', ...lease, correlation: 'c', why: 'owner', detail: null },
      { type: 'leave' },
      {
        type: 'hello',
        version: { major: 1, minor: 2 },
        features: ['goals'],
        mesh,
        capacity,
        held: [lease],
        ready: [],
        checkpoint: null,
        rosterVersion: 3,
      },
    ],
  ],
  [
    founderMessage,
    [
      { type: 'assign', assignment },
      { type: 'beat', sequence: 3, checkpoint: null },
      { type: 'settled', ...lease, correlation: 'c', accepted: true, why: null },
      { type: 'roster', version: 3, blob: digestOf('roster') },
    ],
  ],
  [signedStatement, signBatch(statements, keys.executor)],
  [
    taskSpec,
    [spec, taskSpec.parse({ kind: 'code', code: { goal: 'g' }, repository: (spec as TaskSpec).repository })],
  ],
];

test('what is as its schema gives it back fits as it stands', () => {
  for (const [schema, samples] of SAMPLES) {
    const fits = fitsOf(schema)!;
    for (const sample of samples) {
      const value: unknown = JSON.parse(JSON.stringify(schema.parse(sample)));
      assert.ok(fits(value), JSON.stringify(value).slice(0, 200));
    }
  }
});

const ODD = [
  null,
  undefined,
  '',
  'x'.repeat(5000),
  -1,
  -0,
  1.5,
  2 ** 53,
  1e300,
  true,
  [],
  {},
  [null],
  HEX,
  'execute',
];

/** The value with one change somewhere within. */
function changed(value: unknown, pick: (most: number) => number): unknown {
  if (typeof value !== 'object' || value === null || pick(4) === 0) return ODD[pick(ODD.length)];
  if (Array.isArray(value)) {
    const at = pick(value.length + 1);
    return [...value.slice(0, at), changed(value[at] ?? null, pick), ...value.slice(at + 1)];
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return { x: 1 };
  const at = pick(entries.length);
  const [key, inner] = entries[at]!;
  const ways: [string, unknown][][] = [
    entries.with(at, [key, changed(inner, pick)]),
    entries.toSpliced(at, 1),
    [...entries, ['surplus', 1]],
    [...entries.toSpliced(at, 1), [key, inner]],
    [['__proto__', 1], ...entries],
  ];
  return Object.fromEntries(ways[pick(8)] ?? ways[0]!);
}

test('nothing fits that its schema refuses, or would give back otherwise', () => {
  let fitted = 0;
  for (const [schema, samples] of SAMPLES) {
    const fits = fitsOf(schema)!;
    for (const sample of samples) {
      const whole: unknown = schema.parse(sample);
      fc.assert(
        fc.property(fc.infiniteStream(fc.nat(1 << 20)), (stream) => {
          const other = changed(whole, (most) => (stream.next().value as number) % most);
          const text = JSON.stringify(other);
          if (text === undefined) return;
          const value: unknown = JSON.parse(text);
          if (!fits(value)) return;
          fitted += 1;
          const parsed = schema.safeParse(value);
          if (parsed.success && JSON.stringify(parsed.data) === JSON.stringify(value)) return;
          throw new Error(`fits, but: ${text} ${JSON.stringify(parsed)}`);
        }),
        { numRuns: 400 },
      );
    }
  }
  assert.ok(fitted > 100, `only ${fitted} of the changed ones fitted`);
});

test('what cannot be checked without its schema has no check', () => {
  const text = z.object({ a: z.string() });
  for (const schema of [
    z.string().transform(Number),
    z.object({ a: z.string().trim() }),
    z.union([text, z.object({ a: z.string(), b: z.string() })]),
    z.array(text.refine(() => true)),
    z.number().multipleOf(2),
  ]) {
    const fits = fitsOf(schema);
    assert.ok(fits === null || !fits({ a: ' x ' }) || schema.parse({ a: ' x ' }) === undefined);
  }
  assert.is(fitsOf(z.union([text, text])), null);
});

test.run();
