import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { list } from 'tar';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { archive } from '../../scripts/bundle/archive.ts';
import { isPlatform, nodePackage, PLATFORMS, prebuilt } from '../../scripts/bundle/platforms.ts';

const home = mkdtempSync(join(tmpdir(), 'sf-bundle-'));
test.after(() => rmSync(home, { recursive: true, force: true }));

/** A folder to pack, made anew with other times and in another order. */
function folder(at: string, names: string[]): string {
  const made = join(home, at, 'superfleet-1.2.3-linux-x64');
  mkdirSync(join(made, 'bin'), { recursive: true });
  for (const name of names) {
    writeFileSync(join(made, name), name, { mode: name.startsWith('bin/') ? 0o755 : 0o644 });
    utimesSync(join(made, name), Math.random() * 1e9, Math.random() * 1e9);
  }
  symlinkSync('bin/run', join(made, 'link'));
  return made;
}

test('the same files give the same bytes, and the sums name each of them', async () => {
  const names = ['a b.txt', 'bin/run', 'z'];
  const outputs = [join(home, 'one'), join(home, 'two')];
  const made = [folder('one', names), folder('two', names.toReversed())];
  const archives = await Promise.all(made.map((path, n) => archive(path, outputs[n]!)));
  const [first, second] = archives.map((path) => readFileSync(path));
  assert.ok(first!.equals(second!));
  assert.is(readFileSync(join(made[0]!, 'SHA256SUMS'), 'utf8').trim().split('\n').length, names.length);
  const inside = new Map<string, number>();
  await list({ file: archives[0]!, onReadEntry: (entry) => void inside.set(entry.path, entry.mode ?? 0) });
  assert.equal(
    [...inside.keys()].sort(),
    ['SHA256SUMS', 'a b.txt', 'bin/run', 'link', 'z']
      .map((name) => `superfleet-1.2.3-linux-x64/${name}`)
      .sort(),
  );
  assert.is(inside.get('superfleet-1.2.3-linux-x64/bin/run')! & 0o111, 0o111);
});

test('each platform has its package of Node and its LevelDB', () => {
  assert.ok(PLATFORMS.every((platform) => nodePackage(platform).endsWith(platform)));
  assert.is(prebuilt('win-x64'), 'win32-x64');
  assert.is(prebuilt('darwin-arm64'), prebuilt('darwin-x64'));
  assert.not.ok(isPlatform('linux-riscv64'));
});

test.run();
