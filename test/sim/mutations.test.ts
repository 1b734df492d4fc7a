import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MUTATIONS, patched } from './mutations.ts';

test('every bug that is to be planted has its place in the sources, exactly one', () => {
  for (const { name, patches } of MUTATIONS) {
    for (const patch of patches) {
      const text = readFileSync(patch.file, 'utf8');
      assert.not.throws(() => patched(text, patch), undefined, name);
      assert.is.not(patched(text, patch), text, name);
    }
  }
  assert.ok(MUTATIONS.length >= 15);
});

test('a place that is not there, or there twice, is said aloud', () => {
  const from = { file: 'a.ts', from: 'one();', to: '' };
  assert.throws(() => patched('two();', from), /a\.ts has 0 times/);
  assert.throws(() => patched('one(); one();', from), /a\.ts has 2 times/);
});

test.run();
