import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type NodeCommand, parseNode } from '../../../node/cli/command.ts';
import { scheduleFields } from '../../../node/cli/schedule-text.ts';
import { unknownThere } from '../../../node/submit/post-task.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { schedule } from '../../../protocol/schedule.ts';

function commandOf(line: string): NodeCommand {
  const parsed = parseNode(line.split(' ').filter(Boolean), '9.9.9');
  if (parsed.kind !== 'command') throw new Error('a text');
  return parsed.command;
}

function sent(flags: string) {
  const command = commandOf(`task run ${flags} -- true`);
  if (command.verb !== 'task run') throw new Error(command.verb);
  return command;
}

function refused(flags: string): SuperfleetError {
  try {
    sent(flags);
  } catch (thrown) {
    return thrown as SuperfleetError;
  }
  throw new Error(`not refused: ${flags}`);
}

test('every flag of when and where says what the founder reads', () => {
  const { schedule: asked, once } = sent(
    '--priority 70 --deadline 2h --queue-timeout 30m --after abcdefghijkl --after abcdefghijkl --after bcdefghijklm ' +
      '--group gpu=2 --apart db:rack --need cpus=4,memory=16GiB --need disk=20GiB,strict-limits --replicas 3 --agree --key nightly-1 --once',
  );
  assert.equal(asked, {
    priority: 70,
    deadlineMs: 7_200_000,
    queueMs: 1_800_000,
    after: ['abcdefghijkl', 'bcdefghijklm'],
    group: { name: 'gpu', limit: 2 },
    spread: { name: 'db', over: 'rack', strict: true },
    needs: { cpus: 4, memoryBytes: 16 * 2 ** 30, diskBytes: 20 * 2 ** 30, strictLimits: true },
    replicas: 3,
    key: 'nightly-1',
  });
  assert.is(once, true);
  assert.equal(schedule.parse(asked), asked);
  assert.equal(sent('--group deploy').schedule, { group: { name: 'deploy', limit: 1 } });
  assert.equal(sent('--spread web').schedule, { spread: { name: 'web', over: null, strict: false } });
  assert.is(sent('').schedule, null);
});

test('a goal is asked for in the same way', () => {
  const command = commandOf('task code mend --priority 10 --once');
  assert.equal(command.verb === 'task code' ? [command.schedule, command.once] : null, [
    { priority: 10 },
    true,
  ]);
});

test('what is absurd is refused with what would do', () => {
  const cases: [string, string][] = [
    ['--priority -1', 'a whole number from 0 to 100'],
    ['--priority 101', 'a whole number from 0 to 100'],
    ['--deadline 0s', 'a duration from 1ms to 366d'],
    ['--queue-timeout 400d', 'a duration from 1ms to 366d'],
    ['--after nobody', 'a task id: 12 characters a–z 2–7'],
    ['--group gpu=0', 'a whole number from 1 to 4096'],
    ['--group gpu=-2', 'a whole number from 1 to 4096'],
    ['--need cpus=0', 'a whole number from 1 to 65536'],
    ['--replicas 1 --agree', 'a whole number from 2 to 5'],
    ['--replicas 6 --agree', 'a whole number from 2 to 5'],
    ['--need memory=0GiB', 'a size from 1B to 1024TiB, such as 16GiB'],
    ['--need memory=2000TiB', 'a size from 1B to 1024TiB, such as 16GiB'],
    ['--need gpus=1', 'cpus=N, memory=SIZE, disk=SIZE or strict-limits, by comma'],
    ['--need cpus=2,', 'cpus=N, memory=SIZE, disk=SIZE or strict-limits, by comma'],
  ];
  for (const [flags, expected] of cases) {
    const error = refused(flags);
    assert.is(error.code, 'SF_USAGE', flags);
    assert.is(error.expected, expected, flags);
    assert.is(error.exitCode, 2);
  }
  for (const flags of ['--spread a:B!', '--apart -x', '--key a\u0007', '--group =2']) {
    assert.match(refused(flags).expected ?? '', /letters, digits/, flags);
  }
});

test('what contradicts itself is refused', () => {
  assert.match(refused('--spread a --apart a').message, /exclude each other/);
  assert.match(refused('--replicas 2').message, /go together/);
  assert.match(refused('--agree').message, /go together/);
  assert.match(refused('--deadline 5m --queue-timeout 6m').message, /over before the queue timeout/);
  assert.ok(sent('--deadline 5m --queue-timeout 5m').schedule);
  assert.match(refused('--need cpus=2 --need cpus=4').message, /said twice/);
  assert.ok(sent('--need cpus=2 --need cpus=2').schedule);
});

test('a task is shown with what was asked, in the words of the flags', () => {
  const asked = sent(
    '--priority 70 --deadline 2h --apart db:rack --need cpus=4,strict-limits --group g=3',
  ).schedule;
  assert.equal(scheduleFields(asked), [
    ['priority', '70'],
    ['deadline', '2h after it was submitted'],
    ['group', 'g, at most 3 at one time'],
    ['apart', 'db, over the label rack'],
    ['needs', 'cpus=4, strict-limits'],
  ]);
  assert.equal(scheduleFields(null), []);
});

test('a founder of an older release is named where it refuses what it never heard of', () => {
  const words = 'the request: Unrecognized key: "schedule"';
  const named = unknownThere(new SuperfleetError('SF_USAGE', words), [
    '--priority',
    '--key',
  ]) as SuperfleetError;
  assert.is(named.code, 'SF_VERSION');
  assert.match(named.message, /older release, which does not know --priority, --key$/);
  const other = new SuperfleetError('SF_USAGE', 'spec.argv: too long');
  assert.is(unknownThere(other, ['--key']), other);
});

test.run();
