import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readEntryLine, readTypes, writeBody } from '../../../ledger/lines/entry-line.ts';
import { EVENT_BODIES, type EventType, type LogEvent } from '../../../ledger/lines/events.ts';
import { type Line, LineFault, makeEntry, parseAnyLine } from '../../../ledger/lines/line.ts';
import { publicKeyToBase64 } from '../../../protocol/keys.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import { type TaskSpecInput, taskSpec } from '../../../protocol/task.ts';
import { taskLife } from '../../../scripts/bench/task-life.ts';
import { FOUNDER, GENESIS, long, OTHER_KEY, started, taskId } from '../kit.ts';

const HEX = 'ab'.repeat(32);
const COMMIT = 'c0'.repeat(20);
const by = { kind: 'founder' } as const;
const task = { task: taskId(7), attempt: 3, correlation: 'c-7' };
const log = { blob: HEX, bytes: 12, sha256: HEX };

const submitted = (spec: TaskSpecInput): LogEvent => ({
  type: 'task.submitted',
  body: {
    task: taskId(7),
    correlation: 'c',
    spec: taskSpec.parse(spec),
    bundle: { commit: COMMIT, bundle: HEX, prerequisites: [COMMIT, HEX] },
    rerunOf: taskId(6),
    by: { kind: 'peer', peer: FOUNDER },
  },
});

const continued = (): LogEvent => {
  const event = submitted({ kind: 'code', code: { goal: 'g' }, repository: null }) as LogEvent & {
    type: 'task.submitted';
  };
  const continues = { task: taskId(6), commit: COMMIT, bundle: log, left: 'the tests' };
  return { ...event, body: { ...event.body, continues } };
};

const scheduled = (schedule: Schedule): LogEvent => {
  const event = submitted({ kind: 'command', argv: ['true'], repository: null }) as LogEvent & {
    type: 'task.submitted';
  };
  return { ...event, body: { ...event.body, schedule } };
};

/** At least one of each type there is. */
const EVENTS: LogEvent[] = [
  ...taskLife(1),
  ...taskLife(4),
  continued(),
  scheduled({}),
  scheduled({ key: 'nightly' }),
  scheduled({ needs: {}, group: { name: 'g', limit: 1 } }),
  scheduled({ deadlineMs: 5, needs: { strictLimits: true } }),
  scheduled({
    priority: 0,
    deadlineMs: 1,
    queueMs: 1,
    after: [taskId(1), taskId(2)],
    group: { name: 'board', limit: 2 },
    spread: { name: 'db', over: null, strict: true },
    needs: { cpus: 4, memoryBytes: 1, diskBytes: 2 },
    replicas: 3,
    key: 'k',
  }),
  started(5),
  long(3, 40),
  { type: 'mesh.created', body: GENESIS },
  { type: 'mesh.created', body: { ...GENESIS, parent: { mesh: HEX, checkpoint: 'a "note"\n' } } },
  {
    type: 'epoch.handover',
    body: {
      founder: FOUNDER,
      logKey: publicKeyToBase64(OTHER_KEY.publicKey),
      authority: 'recovery',
      size: 9,
      root: HEX,
      signature: Buffer.alloc(64, 9).toString('base64'),
    },
  },
  {
    type: 'log.snapshot',
    body: {
      size: 8,
      root: HEX,
      frontier: [HEX],
      reducers: [{ name: 'tasks', version: 3, digest: HEX }],
    },
  },
  { type: 'mesh.paused', body: { by: { kind: 'local', user: 'olga', claimed: true } } },
  { type: 'mesh.resumed', body: { by } },
  { type: 'mesh.draining', body: { by } },
  { type: 'mesh.capacity', body: { ring: 36, elastic: 64, by } },
  { type: 'mesh.durability', body: { replicas: 2, by } },
  { type: 'mesh.policy', body: { policy: 'idle,hours=18:00-08:00', by } },
  {
    type: 'invite.created',
    body: {
      invite: HEX,
      expiresAt: 1e12,
      uses: 1,
      roles: ['worker', 'viewer'],
      labels: { arch: 'x64', zone: '' },
      owner: null,
      policy: 'idle,hours=18:00-08:00',
      replaces: FOUNDER,
      by,
    },
  },
  {
    type: 'invite.created',
    body: { invite: HEX, expiresAt: 0, uses: 3, roles: [], labels: {}, owner: 'olga k', by },
  },
  {
    type: 'member.admitted',
    body: {
      peer: FOUNDER,
      name: 'machine-1',
      owner: 'olga',
      roles: ['worker'],
      labels: { a: '1' },
      via: { kind: 'invite', invite: HEX },
      by,
    },
  },
  { type: 'member.eligibility', body: { peer: FOUNDER, eligible: false, by } },
  {
    type: 'member.quarantined',
    body: { peer: FOUNDER, task: task.task, attempt: 2, why: 'x found a result of it invalid' },
  },
  { type: 'member.trusted', body: { peer: FOUNDER, vouched: true, by } },
  { type: 'trust.sampling', body: { on: true, by } },
  { type: 'member.renamed', body: { peer: FOUNDER, name: 'other.name', by } },
  { type: 'member.rejected', body: { peer: FOUNDER, name: 'x', by } },
  { type: 'member.revoked', body: { peer: FOUNDER, reason: 'sold', by } },
  { type: 'member.left', body: { peer: FOUNDER, by } },
  { type: 'member.eligibility', body: { peer: FOUNDER, eligible: false, evictAt: 1_700_000_000_000, by } },
  {
    type: 'class.frozen',
    body: { kind: 'command', repository: { id: 'a'.repeat(40), name: 'app' }, word: 'make', failures: 20 },
  },
  { type: 'class.thawed', body: { kind: 'command', repository: null, word: 'sh -c exit N', by } },
  { type: 'secret.set', body: { name: 'NPM_TOKEN', by } },
  { type: 'secret.removed', body: { name: 'NPM_TOKEN', by } },
  submitted({ kind: 'command', argv: ['true'] }),
  submitted({
    kind: 'command',
    argv: ['make', '', 'a b'],
    checks: ['make check'],
    checkFiles: ['test/**'],
    env: { CI: '1', LANG: 'C.UTF-8' },
    secrets: ['NPM_TOKEN'],
    artifacts: ['out/x.tar'],
    labels: { arch: 'arm64' },
    model: 'qwen2.5-coder:7b',
    tools: { node: '>=20 <25', python3: '*' },
    on: 'machine-1',
    retries: 2,
  }),
  {
    type: 'attempt.ended',
    body: {
      ...task,
      fault: 'machine',
      reason: 'lost',
      detail: null,
      exitCode: -9,
      receipt: HEX,
      envelope: HEX,
      log,
    },
  },
  {
    type: 'task.evidence',
    body: { ...task, epoch: 1, member: FOUNDER, receipt: null, envelope: HEX, why: 'too late' },
  },
  {
    type: 'budget.set',
    body: {
      scope: { kind: 'member', member: FOUNDER },
      limit: { tokens: 5, seconds: null, money: 0 },
      currency: 'EUR',
      by,
    },
  },
  { type: 'budget.set', body: { scope: { kind: 'day' }, limit: null, currency: null, by } },
  { type: 'budget.priced', body: { model: 'big:1', price: { in: 3, out: 15 }, currency: 'EUR', by } },
  {
    type: 'budget.reserved',
    body: {
      ...task,
      member: FOUNDER,
      allowance: {
        tokens: 7,
        seconds: 60,
        money: null,
        models: { 'qwen:7b': { tokens: 1, seconds: null, money: null } },
      },
    },
  },
  {
    type: 'budget.spent',
    body: {
      ...task,
      member: FOUNDER,
      usage: {
        rows: [
          {
            brain: 'ollama',
            place: 'mesh',
            model: 'qwen:7b',
            calls: 2,
            promptTokens: 100,
            generatedTokens: 20,
            estimated: 1,
            ms: 900,
          },
        ],
        short: { model: null, of: 'tokens', needs: 50 },
      },
    },
  },
  {
    type: 'budget.reached',
    body: {
      scope: { kind: 'session' },
      session: taskId(7),
      since: 0,
      limit: { tokens: 5, seconds: null, money: null },
      spent: { tokens: 6, seconds: 1, money: 0 },
    },
  },
  { type: 'task.asked', body: { ...task, question: 'Which of the two files?' } },
  { type: 'task.doubted', body: task },
  { type: 'task.flaky', body: { ...task, checks: [0, 3] } },
  { type: 'task.sampled', body: { ...task, member: FOUNDER, valid: 14, probability: 0.2, verify: false } },
  {
    type: 'task.replicated',
    body: {
      ...task,
      receipt: 'b'.repeat(64),
      verification: 'c'.repeat(64),
      envelope: 'd'.repeat(64),
      agrees: false,
      detail: 'another tree',
    },
  },
  { type: 'reverification.assigned', body: { ...task, member: FOUNDER, nonce: 'a'.repeat(32), of: FOUNDER } },
  {
    type: 'reverification.ended',
    body: { ...task, fault: 'machine', reason: 'environment', detail: 'no git' },
  },
  {
    type: 'task.reverified',
    body: {
      task: taskId(7),
      correlation: 'c',
      of: FOUNDER,
      outcome: 'unavailable',
      attempt: null,
      by: null,
      receipt: 'b'.repeat(64),
      verification: null,
      envelope: null,
      sameOwner: null,
      detail: null,
    },
  },
  { type: 'task.rejected', body: { ...task, model: 'qwen:7b' } },
  { type: 'task.partial', body: { ...task, commit: COMMIT, bundle: log, left: 'the tests' } },
  {
    type: 'task.learned',
    body: {
      ...task,
      files: ['src/a b.ts'],
      failures: [{ check: 0, before: true, pattern: 'expected "N" – N' }],
    },
  },
  { type: 'memory.recalled', body: { ...task, records: [taskId(7), 'n1042'] } },
  {
    type: 'memory.noted',
    body: { repository: { id: COMMIT, name: 'app' }, file: 'src/é.ts', topic: 'tests', text: 'use tabs', by },
  },
  { type: 'memory.noted', body: { repository: null, file: null, topic: null, text: '\u0007', by } },
  { type: 'memory.forgotten', body: { record: 'n1042', by } },
  { type: 'task.answered', body: { task: taskId(7), correlation: 'c', text: 'the one in src', by } },
  { type: 'task.cancelled', body: { task: taskId(7), correlation: 'c', by } },
  { type: 'task.applied', body: { task: taskId(7), commit: COMMIT, by } },
];
const LINES = EVENTS.map(
  (event, n) => makeEntry({ index: n, epoch: 1, time: 1_700_000_000_000 + n }, event).line,
);

function slowly(line: Buffer): Line | null {
  try {
    return parseAnyLine(line);
  } catch (error) {
    assert.instance(error, LineFault);
    return null;
  }
}

/** Fails where the short way takes a line that the long way refuses, or makes something else of it. True: it was taken. */
function agree(line: Buffer | string): boolean {
  const bytes = Buffer.from(line);
  const read = readEntryLine(bytes);
  if (read === null) return false;
  const parsed = slowly(bytes);
  assert.ok(parsed?.kind === 'entry', `taken, though it is refused: ${bytes}`);
  // In bytes, so that the order of keys counts; and as values, so that what JSON leaves out counts, too.
  assert.is(JSON.stringify(read), JSON.stringify(parsed.entry));
  assert.equal(read, parsed.entry);
  return true;
}

test('every type of event is read in one pass, and its entry is what parsing and checking makes of the line', () => {
  assert.equal(readTypes().sort(), Object.keys(EVENT_BODIES).sort());
  assert.equal([...new Set(EVENTS.map(({ type }) => type))].sort(), readTypes().sort());
  for (const [n, line] of LINES.entries()) {
    const plain = /^[\x20-\x7e]*$/.test(line) && !line.includes('\\');
    assert.is(agree(line), plain, EVENTS[n]!.type);
  }
});

const HEAD = { index: 7, epoch: 1, time: 1_700_000_000_000 };

/** Fails where the short way writes a body that its schema refuses, or writes it in another way. True: it was written. */
function writesRight(type: EventType, body: unknown): boolean {
  if (writeBody({ type, body }) === null) return false;
  const written = makeEntry(HEAD, { type, body } as LogEvent);
  const parsed = EVENT_BODIES[type].safeParse(body);
  assert.ok(parsed.success, `written, though it is refused: ${JSON.stringify(body)}`);
  const line = JSON.stringify({ ...HEAD, type, body: parsed.data });
  assert.is(written.line, line);
  assert.is(JSON.stringify(written.entry), line);
  assert.equal(written.entry.body, parsed.data);
  assert.equal(slowly(Buffer.from(line)), { kind: 'entry', entry: written.entry });
  return true;
}

test('every type of event is written in one pass, and its line is what checking and JSON.stringify make of it', () => {
  for (const [n, { type, body }] of EVENTS.entries()) {
    const plain = /^[\x20-\x7e]*$/.test(LINES[n]!) && !LINES[n]!.includes('\\');
    assert.is(writesRight(type, body), plain, type);
  }
});

test('an entry shares no object with the event it was made of', () => {
  const objects = (value: unknown): object[] =>
    typeof value === 'object' && value !== null ? [value, ...Object.values(value).flatMap(objects)] : [];
  for (const event of EVENTS) {
    const { entry } = makeEntry(HEAD, event);
    const given = new Set(objects(event.body));
    for (const part of objects(entry.body)) assert.not(given.has(part), event.type);
  }
});

test('what JSON does not write as it stands is left to checking', () => {
  const { body } = EVENTS.find(({ type }) => type === 'member.renamed')!;
  class Named {
    peer = FOUNDER;
    name = 'x';
    by = by;
  }
  const hidden = Object.defineProperty({ ...body }, 'toJSON', { value: () => 7, enumerable: true });
  for (const odd of [new Named(), hidden, { ...body, more: undefined }, Object.create(body), [], null]) {
    assert.not(writesRight('member.renamed', odd), JSON.stringify(odd));
  }
  assert.ok(writesRight('member.renamed', body));
  const { body: life } = started(5);
  for (const odd of [-0, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 1.5, 1n, new Number(1), '1']) {
    assert.not(writesRight('attempt.started', { ...life, attempt: odd }));
  }
});

/** Spellings, and beginnings and ends of them, that a reader of JSON may stumble over. */
const BITS = [
  ...'"\\{}[]:,-+.eE 0159aZ_\t\n\u0000\u007fé',
  ...['-0', '1e3', '1E2', '1.0', '0.5', '00', '.5', '1e400', '9007199254740991', '9007199254740992'],
  ...['1234567890123456', 'null', 'true', 'false', '\\u0061', '\\n', '\\ud800', '\ud83d\ude00', '[]', '{}'],
  ...['"__proto__":1,', '"1":1,', '"task":null,', '"by":{"kind":"founder"},', '[[[[', '"constructor":{}'],
  ...['"1":"x",', ',"1":"x"', '"__proto__":"x",', '"arch":"x64",', ',"zone":"x"'],
];

test('lines spoiled anywhere, in any way, are never taken where parsing and checking refuses them', () => {
  let taken = 0;
  const line = fc.constantFrom(...LINES);
  const edit = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    cut: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4 })),
    put: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...BITS) }, fc.string({ maxLength: 3 })),
  });
  fc.assert(
    fc.property(line, fc.array(edit, { minLength: 1, maxLength: 2 }), (text, edits) => {
      let spoiled = text;
      for (const { at, cut, put } of edits) {
        const place = Math.floor(at * spoiled.length);
        spoiled = spoiled.slice(0, place) + put + spoiled.slice(place + cut);
      }
      if (agree(spoiled)) taken += 1;
    }),
    { numRuns: 20_000 },
  );
  assert.ok(taken > 100, `${taken} spoiled lines were still lines`);
});

/** Every line with each thing put at each place of it that the pattern finds, in place of what was found. */
function everywhere(pattern: RegExp, put: (found: string) => string[]): void {
  for (const line of LINES) {
    for (const { index, 0: found } of line.matchAll(pattern)) {
      for (const other of put(found)) agree(line.slice(0, index) + other + line.slice(index + found.length));
    }
  }
}

test('a number is read in its one spelling only', () => {
  const spelled = [
    '-0',
    '00',
    '01',
    '-1',
    '1e3',
    '1E3',
    '1.0',
    '0.50',
    '0.5',
    '1.',
    '-.5',
    '12345678901234567',
    '1_0',
  ];
  everywhere(/(?<=:)-?[0-9][0-9.]*/g, (found) => [...spelled, `0${found}`, `${found}.0`, `${found}e0`]);
});

test('keys that come twice, that objects sort or that they do not own are left to parsing', () => {
  const pairs = ['arch', 'LANG', 'CI', 'node', '7', '0', '__proto__', 'constructor', 'task'].map(
    (key) => `"${key}":"1"`,
  );
  everywhere(/\{(?=")/g, () => pairs.map((pair) => `{${pair},`));
  everywhere(/(?<=")\}/g, () => pairs.map((pair) => `,${pair}}`));
});

test('bytes spoiled anywhere, too', () => {
  fc.assert(
    fc.property(fc.constantFrom(...LINES), fc.nat(), fc.nat(255), (text, at, byte) => {
      const bytes = Buffer.from(text);
      bytes[at % bytes.length] = byte;
      agree(bytes);
    }),
    { numRuns: 20_000 },
  );
});

/** Values to put where another was. */
const VALUES: unknown[] = [
  ...[null, true, false, 0, -0, 1, -1, 0.5, 1.5, 1e21, 1e-7, 2 ** 53 - 1, 2 ** 53, 20, 21, 65_536, 65_537],
  ...[
    '',
    'a',
    'A',
    ' ',
    '"',
    '\\',
    '\n',
    'é',
    '\ud800',
    '\u007f',
    '../x',
    '/x',
    '12D3KooWa',
    FOUNDER,
    HEX,
    COMMIT,
  ],
  ...['a'.repeat(12), 'a'.repeat(63), 'a'.repeat(64), 'a'.repeat(65), 'a'.repeat(2049), 'x'.repeat(8193)],
  ...[
    [],
    ['a'],
    Array(65).fill('a'),
    {},
    { a: '1' },
    { 1: '1' },
    JSON.parse('{"__proto__":"a"}'),
    { kind: 'founder' },
  ],
  Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`a${n}`, ''])),
  Array.from({ length: 257 }, () => 'a'),
];

test('bodies changed in their values, keys and order are read and written as their schemas have it, or left', () => {
  let taken = 0;
  let written = 0;
  fc.assert(
    fc.property(
      fc.nat(EVENTS.length - 1),
      fc.nat(),
      fc.constantFrom(...VALUES),
      fc.constantFrom('set', 'delete', 'add', 'last'),
      (n, where, value, how) => {
        const entry = JSON.parse(LINES[n]!) as { body: object };
        const holders: Record<string, unknown>[] = [];
        const walk = (part: unknown): void => {
          if (typeof part !== 'object' || part === null) return;
          holders.push(part as Record<string, unknown>);
          for (const inner of Object.values(part)) walk(inner);
        };
        walk(entry.body);
        const holder = holders[where % holders.length]!;
        const keys = Object.keys(holder);
        const key = keys[(where >> 8) % Math.max(1, keys.length)] ?? 'key';
        const old = holder[key];
        if (how === 'set') holder[key] = value;
        else if (how === 'add') holder[Array.isArray(holder) ? keys.length : `more${where % 3}`] = value;
        else if (Array.isArray(holder)) holder.pop();
        else {
          delete holder[key];
          if (how === 'last') holder[key] = old;
        }
        const { type, body } = entry as { type: EventType; body: object };
        if (writesRight(type, body)) written += 1;
        if (agree(JSON.stringify(entry))) taken += 1;
      },
    ),
    { numRuns: 20_000 },
  );
  assert.ok(taken > 100, `${taken} changed bodies were still of their form`);
  assert.ok(written >= taken, `${written} of them were written, ${taken} read`);
});

test('a line cut short anywhere, or with bytes behind it, is not read', () => {
  for (const line of LINES) {
    const bytes = Buffer.from(line);
    for (let end = 0; end < bytes.length; end += 1) assert.is(readEntryLine(bytes.subarray(0, end)), null);
    assert.is(readEntryLine(Buffer.from(`${line}}`)), null);
  }
});

test('bytes behind a line in the same memory are not looked at', () => {
  const line = LINES.find((text) => text.includes('attempt.started'))!;
  const memory = Buffer.from(`${line}${line}`);
  for (let end = 0; end < line.length; end += 1) {
    assert.is(readEntryLine(memory.subarray(0, end)), null, `${end} of ${line.length} bytes`);
  }
  assert.is.not(readEntryLine(memory.subarray(0, line.length)), null);
});

test.run();
