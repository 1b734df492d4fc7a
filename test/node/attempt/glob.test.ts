import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { glob } from '../../../node/attempt/glob.ts';

const table: [pattern: string, matching: string[], others: string[]][] = [
  ['a.txt', ['a.txt'], ['b.txt', 'x/a.txt', 'a.txt/b']],
  ['*.txt', ['a.txt', '.txt'], ['x/a.txt', 'a.txtx']],
  ['dist/**', ['dist/a', 'dist/x/y'], ['a/dist/b']],
  ['**/*.tgz', ['a.tgz', 'x/y/a.tgz'], ['a.tgz/b']],
  ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b'], ['a/x', 'b']],
  ['a?c', ['abc', 'aüc'], ['ac', 'a/c']],
  ['[a-c]x', ['ax', 'cx'], ['dx', '-x']],
  ['[!a-c]x', ['dx'], ['ax']],
  ['{a,b}/{c,d}*', ['a/c', 'b/dd'], ['a/e', 'c/c']],
  ['{a,{b,c}}', ['a', 'b', 'c'], ['d']],
  ['./a//b', ['a/b'], ['a']],
  ['a[', ['a['], ['a']],
];
for (const [pattern, matching, others] of table) {
  test(`the glob ${pattern} matches what it should and nothing else`, () => {
    for (const path of matching) assert.ok(glob(pattern).matches(path), `${path} must match`);
    for (const path of others) assert.not(glob(pattern).matches(path), `${path} must not match`);
  });
}

test('only folders that can hold a match are looked into', () => {
  assert.ok(glob('dist/*.js').mayMatchUnder('dist'));
  assert.not(glob('dist/*.js').mayMatchUnder('dist/x'));
  assert.not(glob('dist/*.js').mayMatchUnder('src'));
  assert.ok(glob('**/a').mayMatchUnder('any/where'));
});

test('a folder above a match may always be looked into', () => {
  const name = fc.constantFrom('a', 'b', 'ab', '.c');
  const part = fc.constantFrom('a', '*', '**', '?', 'a*', '[ab]', '{a,b}');
  fc.assert(
    fc.property(
      fc.array(part, { minLength: 1, maxLength: 5 }),
      fc.array(name, { minLength: 2, maxLength: 5 }),
      (parts, names) => {
        const one = glob(parts.join('/'));
        if (!one.matches(names.join('/'))) return;
        for (let depth = 1; depth < names.length; depth += 1) {
          assert.ok(one.mayMatchUnder(names.slice(0, depth).join('/')));
        }
      },
    ),
  );
});

test('a hostile pattern takes no exponential time (promise 18)', () => {
  const began = performance.now();
  assert.not(glob(`${'a*'.repeat(200)}b`).matches('a'.repeat(500)));
  assert.not(glob(`${'**/a/'.repeat(60)}b`).matches('a/'.repeat(200)));
  glob('{a,b}'.repeat(100)).matches('a'.repeat(100));
  assert.ok(performance.now() - began < 2_000);
});

test.run();
