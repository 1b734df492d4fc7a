// limit: 180 s
import { once } from 'node:events';
import { open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { scrubDue, scrubEveryMs } from '../../hub/daemon/scrub.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { Mesh, type Outcome } from './mesh.ts';

const mesh = new Mesh();
test.after(() => mesh.close());

const segment = join(mesh.dir('hub'), 'log', '0000000000000000.jsonl');
const errorOf = (text: string) =>
  (JSON.parse(text.trim().split('\n').at(-1)!) as { error: Record<string, string> }).error;

/** Changes one bit in place, as a disk would: the founder has the file open. */
async function flip(at: number): Promise<void> {
  const file = await open(segment, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0]! ^= 1;
  await file.write(byte, 0, 1, at);
  await file.close();
}

const scrub = (): Promise<Outcome> => mesh.hub(['ledger', 'scrub', '--json']);

test('a scrub of a log that holds says what verify says; a byte flipped under the founder stops it, the place named', async () => {
  const founder = await mesh.founder();
  for (let n = 0; n < 5; n += 1) await mesh.json(['invite']);
  const good = await scrub();
  assert.is(good.code, 0, good.stderr);
  assert.equal(JSON.parse(good.stdout), await mesh.json(['ledger', 'verify']));

  await flip(900);
  const ended = once(founder.child, 'exit');
  const done = await scrub();
  assert.equal([done.code, errorOf(done.stderr).code], [5, 'SF_LOG_DAMAGED']);
  assert.match(errorOf(done.stderr).message!, /0000000000000000\.jsonl at byte \d+, before entry \d+/);
  assert.equal(await ended, [5, null]);
  assert.match(founder.log, /SF_LOG_DAMAGED/);
  const start = await mesh.hub(['start', '--json', '--port', '0']);
  assert.equal([start.code, errorOf(start.stderr).message], [5, errorOf(done.stderr).message]);
  await flip(900);
});

test('in the background a founder finds a byte that flips while it runs, and stops with nothing more appended', async () => {
  // Some MiB: a pass takes a few seconds.
  const key = await readKey(join(mesh.dir('hub'), 'log.key'));
  const log = await Log.open({ storage: new FileStorage(join(mesh.dir('hub'), 'log')), key });
  const event: LogEvent = {
    type: 'mesh.resumed',
    body: { by: { kind: 'local', user: 'x'.repeat(64), claimed: true } },
  };
  for (let n = 0; n < 16; n += 1) await log.append(Array(1000).fill(event), Date.now(), 1).durable;
  await log.close();
  const config = join(mesh.dir('hub'), 'config.json');
  await writeFile(config, JSON.stringify({ ...JSON.parse(await readFile(config, 'utf8')), scrub: '512KiB' }));
  await rm(join(mesh.dir('hub'), 'scrubbed.json'));

  const founder = await mesh.startFounder();
  const { size: bytes } = await stat(segment);
  await flip(bytes - 5000);
  const whole = await readFile(segment);
  const code = await founder.ended();
  assert.is(code, 5, founder.log);
  assert.match(founder.log, /SF_LOG_DAMAGED/);
  assert.match(founder.log, /before entry 1\d{4}/);
  assert.ok((await readFile(segment)).subarray(0, whole.length).equals(whole));
});

test('a pass is due once a day, by what the last one left; a clock that went back, or a torn file, makes it due', () => {
  const now = 1_700_000_000_000;
  const kept = (time: number): string => JSON.stringify({ time });
  assert.equal(
    [
      kept(now),
      kept(now - scrubEveryMs + 1),
      kept(now - scrubEveryMs),
      kept(now + 1),
      null,
      '{"ti',
      '{}',
    ].map((text) => scrubDue(text, now)),
    [false, false, true, true, true, true, true],
  );
});

test.run();
