import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hubGrammar } from '../../../hub/cli/command.ts';
import { nodeGrammar } from '../../../node/cli/command.ts';
import { helpColumns, wrap, wrapCommand } from '../../../node/cli/help.ts';
import type { Parsed } from '../../../node/cli/parse.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';

interface AnyGrammar {
  commands(prefix: string): string[];
  options(...path: string[]): string[];
  examples: ReadonlyMap<string, readonly string[]>;
  parse(args: readonly string[], columns?: number): Parsed<unknown>;
}

const bins: [string, () => AnyGrammar][] = [
  ['mesh-hub', () => hubGrammar('1')],
  ['mesh-node', () => nodeGrammar('1')],
];

/** The words of an example as a shell sees them, up to a pipe or redirection. */
function wordsOf(example: string): string[] {
  const command = example.split(/ [|<>] /)[0] ?? '';
  const script = `eval "set -- $LINE"; printf '%s\\0' "$@"`;
  const env = { ...process.env, LINE: command, MESH: 'a'.repeat(64) };
  return execFileSync('sh', ['-c', script], { env, encoding: 'utf8' }).split('\0').slice(0, -1);
}

const textOf = (grammar: AnyGrammar, args: string[], columns?: number): string => {
  const parsed = grammar.parse(args, columns);
  if (parsed.kind !== 'text') throw new Error(`no text: ${args.join(' ')}`);
  return parsed.text;
};

function refusal(grammar: AnyGrammar, args: string[]): SuperfleetError {
  try {
    grammar.parse(args);
  } catch (thrown) {
    return thrown as SuperfleetError;
  }
  throw new Error(`accepted: ${args.join(' ')}`);
}

test('every command has an example, which is one of itself and is understood', () => {
  for (const [bin, make] of bins) {
    const grammar = make();
    for (const command of grammar.commands(bin)) {
      const examples = grammar.examples.get(command) ?? [];
      assert.ok(examples.length > 0, `${command} has no example`);
      for (const example of examples) {
        assert.ok(example.replace(/^sudo /, '').startsWith(command), `${command}: ${example}`);
        const [program, ...args] = wordsOf(example.replace(/^sudo /, ''));
        assert.is(program, bin);
        assert.is(grammar.parse(args).kind, 'command', example);
      }
      const path = command.split(' ').slice(1);
      assert.match(textOf(grammar, [...path, '--help']), /\nExamples?:\n {2}(sudo )?mesh-/, command);
    }
  }
});

test('the help of every command and group fits 80 columns, and 40', () => {
  for (const [bin, make] of bins) {
    const grammar = make();
    const paths = grammar.commands(bin).map((command) => command.split(' ').slice(1));
    const groups = paths.filter(({ length }) => length > 1).map((path) => path.slice(0, 1));
    for (const path of [[], ...groups, ...paths]) {
      for (const columns of [80, 40]) {
        const lines = textOf(grammar, [...path, '--help'], columns).split('\n');
        // A path is not broken: whoever copies it needs it whole.
        const long = lines.filter((line) => line.length > columns && line.trim().includes(' '));
        assert.equal(long, [], `${bin} ${path.join(' ')} at ${columns}`);
      }
    }
  }
});

test('a wide terminal gets lines of 80 columns, one that is not known too', () => {
  assert.equal([undefined, 200, 80, 60, 0].map(helpColumns), [80, 80, 80, 60, 24]);
  assert.is(wrap('one two three', 7), 'one two\nthree');
  assert.is(wrap('a muchlongerword b', 6, '  '), '  a\n  muchlongerword\n  b');
});

test('an example that is broken into lines is the same command to a shell', () => {
  for (const [, make] of bins) {
    for (const examples of make().examples.values()) {
      for (const example of examples)
        assert.equal(wordsOf(wrapCommand(example, 30)), wordsOf(example), example);
    }
  }
});

/** The word as it is often mistyped: two letters in the middle swapped. */
const mistyped = (word: string): string => {
  const at = Math.floor(word.length / 2);
  return word.slice(0, at - 1) + word[at] + word[at - 1] + word.slice(at + 1);
};

test('a misspelt verb of either program, in any group, is exit 2 and the right one is named', () => {
  for (const [bin, make] of bins) {
    const grammar = make();
    const known = new Set(grammar.commands(bin));
    for (const command of known) {
      const path = command.split(' ').slice(1);
      for (let at = 0; at < path.length; at++) {
        const typed = path.map((word, index) => (index === at ? mistyped(word) : word));
        if (typed.join(' ') === path.join(' ') || known.has([bin, ...typed].join(' '))) continue;
        const error = refusal(grammar, typed);
        assert.is(error.exitCode, 2);
        const meant = [bin, ...path.slice(0, at + 1)].join(' ');
        assert.match(error.hint ?? '', 'did you mean ', typed.join(' '));
        assert.ok(error.hint?.includes(meant), `${typed.join(' ')}: ${error.hint}`);
      }
    }
  }
});

test('a misspelt flag of any command is exit 2 and the right one is named', () => {
  for (const [bin, make] of bins) {
    const grammar = make();
    for (const command of grammar.commands(bin)) {
      const path = command.split(' ').slice(1);
      for (const flag of grammar.options(...path)) {
        const typed = flag.slice(0, -1);
        if (grammar.options(...path).includes(typed)) continue;
        const error = refusal(grammar, [...path, typed]);
        assert.is(error.exitCode, 2);
        assert.ok(error.hint?.includes(flag), `${path.join(' ')} ${typed}: ${error.hint}`);
      }
    }
  }
});

test('a verb typed without its group, or in another, is told where it is', () => {
  const [hub, node] = bins.map(([, make]) => make()) as [AnyGrammar, AnyGrammar];
  assert.is(refusal(hub, ['run']).hint, 'did you mean mesh-hub task run?');
  assert.is(refusal(node, ['diff', 'x']).hint, 'did you mean mesh-node task diff?');
  assert.is(refusal(hub, ['task', 'invite']).hint, 'did you mean mesh-hub invite?');
  assert.is(refusal(hub, ['zzzzz']).hint, 'mesh-hub --help');
});

test.run();
