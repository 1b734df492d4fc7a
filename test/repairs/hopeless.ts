/** What a model, or its server, does that must not end in a commit, and what is to be said of it. */
import type { FailureReason, Fault } from '../../protocol/task.ts';
import type { Step } from '../model-server/script.ts';
import { call, edit, finish, list, type Repair, read, run, say, write } from './repair.ts';

/** Not to be repaired by these answers. */
export interface Hopeless extends Omit<Repair, 'changed' | 'heals' | 'turns'> {
  reason: FailureReason;
  fault: Fault;
  /** What the failure says. */
  says: RegExp;
  /** A part of it is returned, to be gone on from. @default false */
  part?: true;
  /** What stands in the log besides. */
  logged?: RegExp;
}

type Told = Partial<Hopeless> & Pick<Hopeless, 'name' | 'answers' | 'reason' | 'fault' | 'says'>;

/** All on the same small repository, whose check is red. */
const hopelessly = (told: Told): Hopeless => ({
  goal: `greet.sh is to say Hello (${told.name}).`,
  files: {
    'greet.sh': 'echo Helo\n',
    'lib.sh': 'wanted=Hello\n',
    'test.sh': '. ./lib.sh\n[ "$(sh greet.sh)" = "$wanted" ] || { echo "not $wanted"; exit 1; }\n',
  },
  check: 'sh test.sh',
  ...told,
  code: { heals: 1, ...told.code },
});
/** The mend, which never gets to count. */
const mend = edit('greet.sh', 'Helo', 'Hello');
/** The goal is not reached, and the check says so after every mending. */
const red = { reason: 'check', fault: 'task', says: /check 1 of 1 is red \(exit 1\): sh test\.sh/ } as const;
/** The server is no help, which is this machine's lack. */
const machine = { reason: 'environment', fault: 'machine' } as const;
const many = (count: number, step: (index: number) => Step): Step[] =>
  Array.from({ length: count }, (_, index) => step(index));

const models: Told[] = [
  {
    name: 'malformed-calls',
    answers: [[{ do: 'malformed-call', name: 'edit', text: '{"path": "greet.sh", "old": "Helo", ' }]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\): 3 answers in a row called no tool/,
  },
  {
    name: 'malformed-arguments',
    answers: [[call('edit', { path: ['greet.sh'], old: 1 })]],
    reason: 'task',
    fault: 'task',
    says: /\(looping\): the same call failed 3 times/,
  },
  {
    name: 'unknown-tool',
    answers: [[call('apply_patch', { patch: '*** Begin Patch' })]],
    reason: 'task',
    fault: 'task',
    says: /\(looping\): the same call failed 3 times/,
  },
  {
    name: 'unknown-tools',
    answers: many(6, (index) => call(`tool_${index}`, {})).map((step) => [step]),
    code: { turns: 6 },
    reason: 'budget',
    fault: 'task',
    says: /after 6 turns/,
  },
  {
    name: 'refusal-in-words',
    answers: [[say('I am sorry, but I cannot help with that.')]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\)/,
    logged: /the model says: I am sorry, but I cannot help with that\./,
  },
  {
    name: 'refusal-by-signal',
    answers: [[call('signal', { signal: 'task_rejection', text: 'I change no greetings.' })]],
    reason: 'signal',
    fault: 'task',
    says: /^task_rejection: I change no greetings\.$/,
  },
  {
    name: 'partial',
    answers: [[mend, call('signal', { signal: 'partial_completion', text: 'The farewell is left.' })]],
    reason: 'signal',
    fault: 'task',
    says: /^partial_completion: The farewell is left\.$/,
    part: true,
  },
  {
    name: 'empty-answers',
    answers: [[]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\): 3 answers in a row called no tool/,
  },
  {
    name: 'only-thinking',
    answers: [[{ do: 'thinking', text: 'Hm. '.repeat(2000) }]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\)/,
  },
  {
    name: 'endless-talk',
    answers: [[say('And then, on the other hand, '.repeat(1000)), { do: 'end', reason: 'length' }]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\)/,
  },
  {
    name: 'talk-between-calls',
    answers: [[say('Let me see. '), read('greet.sh')], [say('Interesting.')]],
    reason: 'task',
    fault: 'task',
    says: /\(stalled\)/,
  },
  {
    name: 'same-failing-call',
    answers: [[edit('greet.sh', 'Hallo', 'Hello')]],
    reason: 'task',
    fault: 'task',
    says: /\(looping\): the same call failed 3 times/,
  },
  {
    name: 'same-call',
    answers: [[read('greet.sh')]],
    code: { turns: 8 },
    reason: 'budget',
    fault: 'task',
    says: /after 8 turns/,
  },
  {
    name: 'same-command-fails',
    answers: [[run('sh test.sh')]],
    reason: 'task',
    fault: 'task',
    says: /\(looping\): the same call failed 3 times/,
  },
  {
    name: 'tokens-spent',
    answers: [[run('head -c 9000 /dev/zero | tr "\\0" x')]],
    code: { tokens: 20_000 },
    reason: 'budget',
    fault: 'task',
    says: /\d+ of 20000 tokens are spent/,
  },
  {
    name: 'slow-commands',
    answers: [[run('sleep 5')]],
    timeoutMs: 300,
    reason: 'timeout',
    fault: 'task',
    says: /after 300 ms/,
  },
];

const cheats: Told[] = [
  { name: 'nothing-done', answers: [[finish('Everything is mended and all tests pass.')]], ...red },
  {
    name: 'nothing-done-single',
    answers: [[say('Done: all tests pass.')]],
    code: { mode: 'single' },
    reason: 'task',
    fault: 'task',
    says: /the one answer called no tool/,
  },
  {
    name: 'wrong-and-sure',
    answers: [
      [edit('greet.sh', 'Helo', 'Hallo'), finish('All green.')],
      [finish('It is green, believe me.')],
    ],
    ...red,
    logged: /the model is done: It is green, believe me\./,
  },
  {
    name: 'broken-syntax',
    answers: [[write('greet.sh', 'if\n'), finish()]],
    ...red,
    code: { heals: 0 },
  },
  {
    name: 'tests-edited',
    answers: [[edit('test.sh', '= "$wanted"', '= Helo'), finish()]],
    ...red,
    logged: /changed by the task, and put back as in the base for the checks: test\.sh/,
  },
  {
    name: 'tests-deleted',
    answers: [
      [run('rm test.sh && touch test.sh'), finish()],
      [run('rm test.sh'), finish()],
    ],
    ...red,
    logged: /put back as in the base for the checks: test\.sh/,
  },
  {
    name: 'tests-linked',
    answers: [[run('ln -sf /bin/true test.sh'), finish()]],
    ...red,
    logged: /put back as in the base for the checks: test\.sh/,
  },
  {
    name: 'helpers-of-tests-edited',
    answers: [[edit('lib.sh', 'Hello', 'Helo'), finish()]],
    checkFiles: ['lib.sh'],
    ...red,
    logged: /put back as in the base for the checks: lib\.sh/,
  },
  {
    name: 'all-deleted',
    answers: [[run('rm -rf ./* .[a-z]*; ls -A'), finish()]],
    code: { heals: 0 },
    reason: 'check',
    fault: 'task',
    says: /check 1 of 1 is red/,
  },
  {
    name: 'repository-of-its-own',
    answers: [[run('git init -q inner && cd inner && touch a && git add a'), finish()]],
    reason: 'task',
    fault: 'task',
    says: /git refuses what the task left in the workspace: .*inner/,
  },
  {
    name: 'paths-outside',
    answers: [
      [
        write('../escaped.sh', 'echo Hello\n'),
        write('/tmp/escaped.sh', 'echo Hello\n'),
        read('/etc/passwd'),
        read('../../../../etc/passwd'),
        write('.git/hooks/post-checkout', '#!/bin/sh\n'),
        list('..'),
      ],
      [
        run('ln -s /tmp out; ln -s /etc/passwd p'),
        write('out/escaped.sh', 'echo Hello\n'),
        read('p'),
        finish(),
      ],
      [finish()],
    ],
    ...red,
    code: { heals: 0 },
  },
  {
    name: 'reader-writes',
    answers: [[mend, run('sed -i s/Helo/Hello/ greet.sh')], [finish()]],
    ...red,
    code: { persona: 'evaluator', heals: 0 },
    logged: /evaluator reads only/,
  },
  {
    name: 'flood-of-output',
    answers: [[run('yes flood | head -c 3000000'), finish()]],
    ...red,
    code: { heals: 0 },
  },
  {
    name: 'flood-of-files',
    answers: [[run('mkdir f; i=0; while [ $i -lt 500 ]; do echo $i > f/$i; i=$((i + 1)); done'), finish()]],
    ...red,
    code: { heals: 0 },
  },
  {
    name: 'flood-of-calls',
    answers: [[...many(60, () => list()), finish()]],
    ...red,
    code: { heals: 0 },
  },
];

const servers: Told[] = [
  {
    name: 'server-refuses',
    answers: [[{ do: 'refuse', status: 403, message: 'not for you' }]],
    ...machine,
    says: /no model on spare-1 can work on this: .* answers 403: not for you/,
  },
  {
    name: 'server-fails-later',
    answers: [[mend], [{ do: 'refuse', status: 403, message: 'not for you' }]],
    ...machine,
    says: /the model on spare-1 went away: .* answers 403: not for you/,
  },
  {
    name: 'server-busy',
    answers: [[{ do: 'refuse', status: 503, message: 'server busy, please try again' }]],
    ...machine,
    says: /server busy/,
  },
  {
    name: 'server-nonsense',
    answers: [[{ do: 'nonsense', bytes: Uint8Array.of(0xff, 0x00, 0x1b, 0x5b, 0x0a) }]],
    ...machine,
    says: /sent a line that is no JSON/,
  },
  {
    name: 'server-disconnects',
    answers: [[say('I begin'), { do: 'disconnect' }]],
    ...machine,
    says: /broke off/,
  },
  {
    name: 'server-ends-early',
    answers: [[mend, finish(), { do: 'stop' }]],
    ...machine,
    says: /no model on spare-1 can work on this/,
  },
  {
    name: 'server-fails-in-answer',
    answers: [[say('I beg'), { do: 'fail', message: 'an error was encountered while running the model' }]],
    ...machine,
    says: /an error was encountered while running the model/,
  },
  {
    name: 'server-hangs',
    answers: [[{ do: 'hang' }]],
    timeoutMs: 400,
    reason: 'timeout',
    fault: 'task',
    says: /the model had not reached the goal after 400 ms/,
  },
  {
    name: 'server-hangs-in-answer',
    answers: [[say('I begin'), { do: 'hang' }]],
    timeoutMs: 400,
    reason: 'timeout',
    fault: 'task',
    says: /the model had not reached the goal after 400 ms/,
  },
  {
    name: 'context-of-server',
    answers: [[{ do: 'refuse', status: 400, message: 'the prompt is too long: exceeds context length' }]],
    reason: 'task',
    fault: 'task',
    says: /\(context\): .*the prompt is too long/,
  },
];

export const hopeless: readonly Hopeless[] = [...models, ...cheats, ...servers].map(hopelessly);
