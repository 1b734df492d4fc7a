// limit: 180 s
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Mesh, type Outcome } from './mesh.ts';

const mesh = new Mesh();
test.after(() => mesh.close());

const exported = join(mesh.home, 'mesh.jsonl');
const log = (): string => join(mesh.dir('hub'), 'log');
const segment = (): string => join(log(), '0000000000000000.jsonl');
const errorOf = (done: Outcome) =>
  (JSON.parse(done.stderr.trim().split('\n').at(-1)!) as { error: Record<string, string> }).error;

function flip(at: number): void {
  const bytes = readFileSync(segment());
  bytes[at]! ^= 1;
  writeFileSync(segment(), bytes);
}

const repair = (...args: string[]): Promise<Outcome> => mesh.hub(['ledger', 'repair', '--json', ...args]);

test('a founder with a damaged log does not start, names the repair, and is repaired from an export', async () => {
  const founder = await mesh.founder();
  for (let n = 0; n < 8; n += 1) await mesh.json(['invite']);
  await mesh.json(['ledger', 'export', '--output', exported]);
  const busy = await repair('--from', exported);
  assert.equal([busy.code, errorOf(busy).code], [6, 'SF_LOCKED']);
  await founder.end('SIGTERM');

  flip(1500);
  const damagedBytes = readFileSync(segment());
  const start = await mesh.hub(['start', '--json', '--port', '0']);
  assert.is(start.code, 5);
  assert.is(errorOf(start).code, 'SF_LOG_DAMAGED');
  assert.match(errorOf(start).hint!, /mesh-hub ledger repair --from/);

  const done = await repair('--from', exported);
  assert.is(done.code, 0, done.stderr);
  const said = JSON.parse(done.stdout) as Record<string, number & string>;
  assert.ok(said.sound! > 0 && said.taken! > 0);
  assert.is(said.lost, 0);
  assert.ok(readFileSync(segment()).equals(readFileSync(exported)));
  const kept = readdirSync(mesh.dir('hub')).filter((name) => name.startsWith('log.damaged-'));
  assert.equal(kept, ['log.damaged-1']);
  assert.ok(readFileSync(join(mesh.dir('hub'), kept[0]!, '0000000000000000.jsonl')).equals(damagedBytes));

  const again = await mesh.startFounder();
  await mesh.json(['invite']);
  assert.is((await mesh.hub(['ledger', 'verify'])).code, 0);
  await again.end('SIGTERM');
});

test('an older export is refused where more was signed, and a copy of the folder mends it to the same bytes', async () => {
  const whole = readFileSync(segment());
  const copy = join(mesh.home, 'copy');
  cpSync(mesh.dir('hub'), copy, { recursive: true });
  flip(700);
  const short = await repair('--from', exported);
  assert.equal([short.code, errorOf(short).code], [5, 'SF_BEHIND']);
  assert.match(errorOf(short).hint!, /--accept-loss/);
  assert.equal(
    readdirSync(mesh.dir('hub')).filter((name) => /^log\./.test(name) && !name.startsWith('log.key')),
    ['log.damaged-1'],
  );

  const done = await repair('--from', copy);
  assert.is(done.code, 0, done.stderr);
  assert.ok(readFileSync(segment()).equals(whole));
  const nothing = await repair('--from', copy);
  assert.equal([nothing.code, JSON.parse(nothing.stdout)], [0, { changed: false }]);
  rmSync(copy, { recursive: true });
});

test('the log of another mesh is refused', async () => {
  const other = join(mesh.home, 'other');
  const init = await mesh.hub(['init', '--dir', other, '--recovery-key', join(mesh.home, 'other.key')]);
  assert.is(init.code, 0, init.stderr);
  const done = await repair('--from', other);
  assert.equal([done.code, errorOf(done).code], [5, 'SF_NOT_PROVED']);
});

test.run();
