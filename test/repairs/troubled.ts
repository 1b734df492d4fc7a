import { call, edit, finish, lines, type Repair, read, run, say, write } from './repair.ts';

const files = {
  'greet.sh': 'echo Helo\n',
  'test.sh': lines('[ "$(sh greet.sh)" = Hello ] || { echo "greet.sh says $(sh greet.sh)"; exit 1; }'),
};
const mend = edit('greet.sh', 'Helo', 'Hello');
type Told = Pick<Repair, 'name' | 'answers'> & Partial<Repair>;
const greeting = (told: Told): Repair => ({
  goal: `greet.sh is to say Hello (${told.name}).`,
  files,
  check: 'sh test.sh',
  changed: ['M\tgreet.sh'],
  ...told,
});

const told: readonly Told[] = [
  {
    name: 'disconnected-once',
    answers: [[say('I beg'), { do: 'disconnect' }], [mend], [finish()]],
    turns: 2,
  },
  // What came before the end of the answer was missing was not done twice.
  { name: 'ended-early-once', answers: [[mend, { do: 'stop' }], [mend], [finish()]], turns: 2 },
  { name: 'nonsense-once', answers: [[{ do: 'nonsense', bytes: 'x{]\n' }], [mend, finish()]], turns: 1 },
  {
    name: 'busy-once',
    answers: [[mend], [{ do: 'refuse', status: 503, message: 'server busy, please try again' }], [finish()]],
    turns: 2,
  },
  {
    name: 'malformed-once',
    answers: [[{ do: 'malformed-call', name: 'edit', text: '{"path": "greet.sh", ' }], [mend], [finish()]],
  },
  { name: 'unknown-tool-once', answers: [[call('str_replace', { path: 'greet.sh' })], [mend, finish()]] },
  { name: 'silent-twice', answers: [[], [say('I would edit greet.sh.')], [mend], [finish()]] },
  {
    name: 'cut-once',
    answers: [
      [say('So. '.repeat(50)), { do: 'end', reason: 'length' }],
      [mend, finish()],
    ],
  },
  { name: 'never-ends', answers: [[mend], [read('greet.sh')]], code: { turns: 4 }, turns: 4 },
  { name: 'hangs-when-done', answers: [[mend], [{ do: 'hang' }]], timeoutMs: 700, turns: 1 },
  {
    name: 'lies-about-files',
    answers: [[mend], [finish('I changed greet.sh, README.md, docs/greeting.md and twelve tests.')]],
  },
  {
    name: 'hides-a-file',
    answers: [[mend, run('echo x > extra.txt')], [finish('I changed one file, greet.sh.')]],
    changed: ['A\textra.txt', 'M\tgreet.sh'],
  },
  {
    name: 'claims-a-change-it-took-back',
    answers: [
      [mend, write('notes.txt', 'x\n'), run('rm notes.txt')],
      [finish('I changed greet.sh and notes.txt.')],
    ],
  },
  {
    name: 'counts-ignored-files',
    files: { ...files, '.gitignore': 'build/\n' },
    answers: [[mend, write('build/out.txt', 'x\n')], [finish('Two files.')]],
  },
  {
    name: 'edits-the-tests-too',
    // The test it was given is what judges, and what it made of it goes along as it is, for people to see.
    answers: [[mend, edit('test.sh', 'says $', 'said $')], [finish('Only greet.sh.')]],
    changed: ['M\tgreet.sh', 'M\ttest.sh'],
  },
];

/** Repairs that go well although the model, its server or both do not: what is broken passes, and what is said is not believed. */
export const troubled: readonly Repair[] = told.map(greeting);
