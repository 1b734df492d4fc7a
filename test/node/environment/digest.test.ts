import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type DigestInput, digestText, environmentDigest } from '../../../node/environment/digest.ts';

const input: DigestInput = {
  recipe: {
    prepare: ['npm ci', 'echo "a\nb"'],
    makes: [
      { in: 'workspace', path: 'node_modules' },
      { in: 'home', path: '.cargo' },
    ],
  },
  files: { 'package.json': 'bb', 'a.lock': 'aa' },
  tools: { npm: '10.8.2', node: '20.20.2' },
  platform: 'linux',
  arch: 'x64',
};

test('the text is the documented one, and its name its SHA-256', () => {
  const text = `superfleet-environment 1
machine "linux" "x64"
tool "node" "20.20.2"
tool "npm" "10.8.2"
file "a.lock" "aa"
file "package.json" "bb"
prepare "npm ci"
prepare "echo \\"a\\nb\\""
makes "home" ".cargo"
makes "workspace" "node_modules"
`;
  assert.is(digestText(input), text);
  assert.is(environmentDigest(input), createHash('sha256').update(text).digest('hex'));
});

test('order matters for lines and for nothing else', () => {
  const turned = {
    ...input,
    files: { 'a.lock': 'aa', 'package.json': 'bb' },
    recipe: { ...input.recipe, makes: [...input.recipe.makes].reverse() },
  };
  assert.is(environmentDigest(turned), environmentDigest(input));
  const lines = { ...input, recipe: { ...input.recipe, prepare: [...input.recipe.prepare].reverse() } };
  assert.is.not(environmentDigest(lines), environmentDigest(input));
});

test('different facts never have one text', () => {
  const word = fc.string({ maxLength: 4, unit: fc.constantFrom('a', '"', '\n', ' ', '\\') });
  const made = fc.record({ in: fc.constantFrom('workspace' as const, 'home' as const), path: word });
  const facts = fc.record({
    recipe: fc.record({
      prepare: fc.array(word, { maxLength: 3 }),
      makes: fc.uniqueArray(made, { maxLength: 2, selector: (each) => each.in + each.path }),
    }),
    files: fc.dictionary(word, word, { maxKeys: 2 }),
    tools: fc.dictionary(word, word, { maxKeys: 2 }),
    platform: word,
    arch: word,
  });
  const plain = (one: DigestInput): string =>
    JSON.stringify([
      one.recipe.prepare,
      one.recipe.makes.map((each) => [each.in, each.path]).sort(),
      Object.entries(one.files).sort(),
      Object.entries(one.tools).sort(),
      one.platform,
      one.arch,
    ]);
  fc.assert(
    fc.property(
      facts,
      facts,
      (one, other) => (digestText(one) === digestText(other)) === (plain(one) === plain(other)),
    ),
    { numRuns: 2000 },
  );
});

test.run();
