import type { CodeSpecInput, CommandSpecInput } from '../../protocol/task.ts';

/** What the demo's repository holds: a greeter that is misspelt, with a test that says so, and some words to work on. */
export const demoFiles: Record<string, string> = {
  'README.md':
    '# Greeter\n\nA small project for looking around in a mesh. `sh test.sh` is red until the greeting is spelt right.\n',
  'greet.sh': 'echo "Helo, $1!"\n',
  'test.sh': '[ "$(sh greet.sh mesh)" = "Hello, mesh!" ]\n',
  'words.txt': `${'oak ash elm fir yew oak elm oak beech larch'.split(' ').join('\n')}\n`,
  '.gitignore': 'out/\n',
};

export interface DemoTask {
  /** How the demo calls it. */
  name: string;
  /** What a person will see of it. */
  about: string;
  /** Runs in an empty workspace. */
  bare?: boolean;
  /** Of kind `command`, unless it says another. */
  spec: Omit<CommandSpecInput, 'repository' | 'kind'> | Omit<CodeSpecInput, 'repository'>;
}

/** A label that no machine has, unless somebody meant to. */
export const demoLabel = { 'superfleet-demo': 'nobody' };

const sh = (script: string): string[] => ['sh', '-c', script];

/** Sent where a machine of the mesh offers a model. */
export const demoGoal = {
  name: 'goal',
  about: 'a model is told what is wanted, and works until the check is green',
  spec: {
    kind: 'code',
    code: { goal: 'The greeting in greet.sh is misspelt; sh test.sh says what is expected. Mend greet.sh.' },
    checks: ['sh test.sh'],
    timeoutMs: 600_000,
  },
} as const satisfies DemoTask;

/** Small tasks of every kind; each ends within a minute but the one that waits. */
export const demoTasks: readonly DemoTask[] = [
  {
    name: 'mended',
    about: 'its check was red before, and is green with the change it made',
    spec: { argv: ['sed', '-i', 's/Helo/Hello/', 'greet.sh'], checks: ['sh test.sh'] },
  },
  {
    name: 'waiting',
    about: 'asks for a label that no machine has',
    spec: { argv: ['true'], labels: demoLabel },
  },
  {
    name: 'slow',
    about: 'counts to thirty, one a second',
    spec: { argv: sh('i=0; while [ $i -lt 30 ]; do i=$((i + 1)); echo "step $i"; sleep 1; done') },
  },
  {
    name: 'red',
    about: 'changes nothing, so its check stays red',
    spec: { argv: ['true'], checks: ['sh test.sh'] },
  },
  {
    name: 'failing',
    about: 'ends with exit code 7',
    spec: { argv: sh('echo "cannot go on" >&2; exit 7') },
  },
  {
    name: 'artifacts',
    about: 'brings files back besides the commit',
    spec: {
      argv: sh('mkdir out && sort words.txt > out/sorted.txt && sort -u words.txt > out/unique.txt'),
      checks: ['test -s words.txt'],
      artifacts: ['out/*.txt'],
    },
  },
  {
    name: 'counted',
    about: 'counts the words and adds a file',
    spec: { argv: sh('sort words.txt | uniq -c | sort -rn > counts.txt'), checks: ['test -s counts.txt'] },
  },
  {
    name: 'unchanged',
    about: 'looks at a file and changes none',
    spec: { argv: ['cat', 'words.txt'], checks: ['test -s words.txt'] },
  },
  {
    name: 'unchecked',
    about: 'has no check, so nobody else can vouch for it',
    bare: true,
    spec: { argv: sh('echo $((6 * 7))') },
  },
  {
    name: 'late',
    about: 'takes longer than it may',
    bare: true,
    spec: { argv: ['sleep', '60'], timeoutMs: 2_000 },
  },
  {
    name: 'retried',
    about: 'fails, and is tried once more',
    bare: true,
    spec: { argv: sh('echo "no luck"; exit 1'), retries: 1 },
  },
  {
    name: 'named',
    about: 'is given a name by its environment',
    spec: {
      argv: sh('echo "name: $PROJECT" > project.txt'),
      env: { PROJECT: 'greeter' },
      checks: ['grep -q greeter project.txt'],
    },
  },
];
