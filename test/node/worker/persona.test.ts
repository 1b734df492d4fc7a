import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { personaOf, titleOf } from '../../../node/worker/persona.ts';

const may = (name: string, file: string | null = null): string =>
  [...personaOf(name, file).may].sort().join(' ');
const READS = 'net read';
const ONLY_FILES = 'read';
const WRITES = 'net read run write';

test('benjamin and lucas write; the other three and whoever is unknown read', () => {
  for (const name of ['benjamin', 'lucas', 'Benjamin', 'LUCAS']) assert.is(may(name), WRITES, name);
  for (const name of ['captain', 'harper', 'evaluator', 'Harper']) assert.is(may(name), READS, name);
  const unknown = ['', 'root', 'benjamin2', ' benjamin', 'bеnjamin', 'constructor', '__proto__', 'builder'];
  for (const name of unknown) assert.is(may(name), ONLY_FILES, name);
});

test('the title of the role file decides before the name does', () => {
  assert.is(personaOf('x-17', '# Benjamin, the builder\n\nBuild.').role, 'benjamin');
  assert.is(may('x-17', '# The builder'), WRITES);
  assert.is(may('benjamin', '# Adversarial researcher and reviewer\n'), READS);
  assert.is(personaOf('lucas', '---\ntitle: "Captain"\n---\n# Builder\n').role, 'captain');
  assert.is(personaOf('anyone', '---\nmodel: x\n---\n\n# Synthesizer\n').role, 'lucas');
});

test('a title that tells no role leaves it to the name, one that tells two gives nobody the right to write', () => {
  assert.is(may('benjamin', '# Senior engineer\n'), WRITES);
  assert.is(may('somebody', '# Senior engineer\n'), ONLY_FILES);
  assert.is(personaOf('benjamin', '# Builder and reviewer\n').role, null);
  assert.is(may('benjamin', '# Builder and reviewer\n'), ONLY_FILES);
});

test('a role is a whole word of the title, and only of the title', () => {
  assert.is(may('x', '# Rebuilders\n'), ONLY_FILES);
  assert.is(may('harper', 'You are not the builder.\n\n## Builder\n'), READS);
  assert.is(titleOf('text\n#no\n# A title \nmore'), 'A title');
  assert.is(titleOf('\uFEFF# A title\r\nmore'), 'A title');
  assert.is(titleOf('---\ntitle: x\nno end'), null);
  assert.is(titleOf(''), null);
});

test.run();
