import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alike, classKey, classOf } from '../../../ledger/state/failures.ts';
import { taskSpec } from '../../../protocol/task.ts';

test('what differs from one time to the next is left out of a text', () => {
  const like = (one: string, other: string): void => assert.is(alike(one), alike(other), `${one} | ${other}`);
  like('check 1 failed after 312 ms', 'check 14 failed after 7 ms');
  like('no such file: /home/a/b.txt', 'no such file: /var/tmp/x-3/c');
  like('src/a/one.ts:3:14 - error TS2304', 'lib/two.ts:112:1 - error TS2551');
  like('commit deadbeef01 is gone', 'commit 0123456789abcdef0123456789abcdef01234567 is gone');
  like('asked http://10.0.0.7:11434/api', 'asked https://lab.local/v1/models?x=1');
  like('at 0x7ffe12 in main', 'at 0xdeadbeef in main');
  like('a\u001b[31m  b\n\nc', 'a\u001b[33m b c');
  assert.is.not(alike('make is missing'), alike('cargo is missing'));
  assert.is.not(
    alike('a face is defaced'),
    alike('a cafe is faded'),
    'words of the letters a to f are words',
  );
});

test('a text that a member made up takes no time', () => {
  for (const piece of ['a/', '0x', '..', '://', 'a1', '1.', '~/.', '%2f', '\u0000 ', 'a.b+c-d']) {
    const from = process.hrtime.bigint();
    assert.ok(alike(piece.repeat(2048 / piece.length)).length <= 2_048);
    assert.ok(process.hrtime.bigint() - from < 1_000_000_000n, piece);
  }
});

test('a class is kind, repository and program; of a shell its line; of a goal its first check', () => {
  const repository = { id: 'a'.repeat(40), name: 'app', ref: 'HEAD', base: 'f'.repeat(40) };
  const key = (spec: object): string =>
    classKey(classOf(taskSpec.parse({ kind: 'command', repository, checks: [], ...spec })));
  assert.is(key({ argv: ['make', 'a'] }), key({ argv: ['/usr/bin/make', 'b'] }));
  assert.is(key({ argv: ['sh', '-c', 'fit --seed 3'] }), key({ argv: ['sh', '-c', 'fit --seed 41'] }));
  assert.is.not(key({ argv: ['sh', '-c', 'fit'] }), key({ argv: ['sh', '-c', 'draw'] }));
  assert.is.not(key({ argv: ['make'] }), key({ argv: ['make'], repository: null }));
  const code = { kind: 'code', code: { goal: 'mend it' }, checks: ['make test'] };
  assert.is(classOf(taskSpec.parse({ ...code, repository })).word, 'make test');
});

test.run();
