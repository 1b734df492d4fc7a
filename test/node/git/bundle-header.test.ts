import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bundleHeaderBytesMax, parseBundleHeader } from '../../../node/git/bundle-header.ts';
import { GitFault } from '../../../node/git/fault.ts';
import { bundleObjectsMax } from '../../../protocol/limits.ts';

const A = 'a'.repeat(40);
const B = 'b'.repeat(40);
const pack = (objects = 3, version = 2): Buffer => {
  const head = Buffer.alloc(12);
  head.write('PACK', 'latin1');
  head.writeUInt32BE(version, 4);
  head.writeUInt32BE(objects, 8);
  return head;
};
const bundle = (text: string, rest: Buffer = pack()): Buffer =>
  Buffer.concat([Buffer.from(text, 'latin1'), rest]);

test('a bundle of one ref and its prerequisites is read', () => {
  const header = parseBundleHeader(bundle(`# v2 git bundle\n-${A} a comment\n${B} refs/heads/x\n\n`));
  assert.equal(header.prerequisites, [A]);
  assert.equal(header.refs, [{ commit: B, name: 'refs/heads/x' }]);
  assert.is(header.objects, 3);
  assert.is(header.packOffset, 16 + 52 + 54 + 1);
});

test('a bundle of SHA-256 names is read where it says so', () => {
  const long = 'c'.repeat(64);
  const text = `# v3 git bundle\n@object-format=sha256\n${long} refs/heads/x\n\n`;
  assert.is(parseBundleHeader(bundle(text)).objectFormat, 'sha256');
  assert.throws(() => parseBundleHeader(bundle(text.replace('sha256', 'sha1'))), isRefused);
});

const refused: [why: string, bytes: Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['another signature', bundle(`# v4 git bundle\n${B} refs/heads/x\n\n`)],
  ['a header cut off', Buffer.from(`# v2 git bundle\n${B} refs`)],
  ['a header without an end', Buffer.alloc(bundleHeaderBytesMax * 2, `# v2 git bundle\n${B} refs/heads/x\n`)],
  ['no ref', bundle('# v2 git bundle\n\n')],
  ['extra refs', bundle(`# v2 git bundle\n${B} refs/heads/x\n${A} refs/heads/main\n\n`)],
  ['a ref with a newline in its place', bundle(`# v2 git bundle\n${B} refs/heads/x y\n\n`)],
  ['a ref that is no ref', bundle(`# v2 git bundle\n${B} --upload-pack=x\n\n`)],
  ['a filter', bundle(`# v3 git bundle\n@filter=blob:none\n${B} refs/heads/x\n\n`)],
  ['a capability in version 2', bundle(`# v2 git bundle\n@object-format=sha1\n${B} refs/heads/x\n\n`)],
  ['too many prerequisites', bundle(`# v2 git bundle\n${`-${A} x\n`.repeat(65)}${B} refs/heads/x\n\n`)],
  ['a zero byte', bundle(`# v2 git bundle\n${B} refs/heads/x\0\n\n`)],
  ['no pack', bundle(`# v2 git bundle\n${B} refs/heads/x\n\n`, Buffer.from('PACQ00000000'))],
  ['a pack cut off', bundle(`# v2 git bundle\n${B} refs/heads/x\n\n`, pack().subarray(0, 11))],
  ['a pack of another version', bundle(`# v2 git bundle\n${B} refs/heads/x\n\n`, pack(3, 9))],
  ['too many objects', bundle(`# v2 git bundle\n${B} refs/heads/x\n\n`, pack(bundleObjectsMax + 1))],
];
for (const [why, bytes] of refused) {
  test(`a bundle with ${why} is refused with a reason`, () => {
    assert.throws(() => parseBundleHeader(bytes), isRefused);
  });
}

test('any bytes are read or refused, and nothing else happens', () => {
  const good = bundle(`# v2 git bundle\n-${A} x\n${B} refs/heads/x\n\n`);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, value, end) => {
      const bytes = Buffer.from(good);
      bytes[at] = value;
      try {
        parseBundleHeader(bytes.subarray(0, end));
      } catch (error) {
        assert.ok(isRefused(error), String(error));
      }
    }),
  );
});

function isRefused(error: unknown): boolean {
  return (
    error instanceof GitFault && error.of === 'input' && error.message.startsWith('the bundle is refused: ')
  );
}

test.run();
