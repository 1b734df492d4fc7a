// limit: 180 s
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { handoverBatch } from '../../ledger/log/handover.ts';
import { Log } from '../../ledger/log/log.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import { verifyExport } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { signingKeyFromSeed } from '../../protocol/keys.ts';
import { KEY, newLog, OTHER_KEY, started } from '../ledger/kit.ts';
import { Mesh } from '../net/mesh.ts';

/** The log as a program sees it that shares nothing with ours but docs/log.md. */
const VERIFIER = new URL('./verify-log.pl', import.meta.url).pathname;
const FIXTURE = new URL('../fixtures/log-1', import.meta.url).pathname;
const FIRST = '0000000000000000.jsonl';
const TIME = 1_700_000_000_000;

const perl = spawnSync('perl', ['-MDigest::SHA', '-MJSON::PP', '-MMIME::Base64', '-MFile::Temp', '-e', '1']);
const openssl = /^OpenSSL ([3-9]|\d\d)\./.test(
  spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout,
);
const missing = perl.status !== 0 ? 'perl with its core modules' : openssl ? null : 'openssl 3 or later';
if (missing !== null) console.log(`SKIPPED: this machine has no ${missing}`);
const check = missing === null ? test : test.skip;

const home = mkdtempSync(join(tmpdir(), 'superfleet-verifier-'));
test.after(() => rmSync(home, { recursive: true }));

interface Said {
  code: number | null;
  why: string;
  mesh: string | undefined;
  size: number;
  root: string | undefined;
}

function verify(...args: string[]): Said {
  const { status, stdout, stderr } = spawnSync('perl', [VERIFIER, ...args], { encoding: 'utf8' });
  const field = (name: string): string | undefined => new RegExp(`^${name} (\\S+)$`, 'm').exec(stdout)?.[1];
  const [mesh, size, root] = [field('mesh'), Number(field('size')), field('root')];
  return { code: status, why: stderr, mesh, size, root };
}

function refused(path: string, why: RegExp, what: string): void {
  const said = verify(path);
  assert.is(said.code, 1, `${what}: ${said.why}`);
  assert.match(said.why, why, what);
}

const exportOf = (folder: string): Buffer =>
  Buffer.concat(
    readdirSync(folder)
      .filter((name) => name.endsWith('.jsonl'))
      .sort()
      .map((name) => readFileSync(join(folder, name))),
  );

function file(bytes: Buffer | string): string {
  const path = join(home, 'export.jsonl');
  writeFileSync(path, bytes);
  return path;
}

check('it is no longer than what one reads in a sitting', () => {
  assert.ok(readFileSync(VERIFIER, 'utf8').split('\n').length <= 151);
});

check('the frozen log holds, as segments and as an export, and only as the mesh it is of', () => {
  const mesh = '55b4194d23079ae723953407758ead04f9d46637f492ce6e6c748f5df24587e0';
  for (const path of [FIXTURE, file(exportOf(FIXTURE))]) {
    const said = verify(path, mesh);
    assert.equal([said.code, said.mesh, said.size], [0, mesh, 8], said.why);
    assert.is(said.root, 'c17e7bf323bc1b220032a665b534c9995d83422b51b6715c6bd7e764f732e57b');
  }
  assert.is(verify(FIXTURE, 'f'.repeat(64)).code, 1);
});

check('bytes flipped all over the frozen log are found', () => {
  const whole = exportOf(FIXTURE);
  for (let at = 0; at < whole.length; at += 97) {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1;
    refused(file(bytes), /^not sound: /m, `byte ${at}`);
  }
});

check(
  'lines left out, doubled or exchanged, a cut end and a segment that is gone are judged as we judge them',
  async () => {
    const lines = exportOf(FIXTURE).toString().trimEnd().split('\n');
    const log = (kept: string[]): string => file(`${kept.join('\n')}\n`);
    let held = 0;
    for (let at = 0; at < lines.length - 1; at += 1) {
      for (const [what, kept] of [
        ['left out', lines.toSpliced(at, 1)],
        ['doubled', lines.toSpliced(at, 0, lines[at]!)],
        ['exchanged', lines.toSpliced(at, 2, lines[at + 1]!, lines[at]!)],
      ] as const) {
        const path = log([...kept]);
        const ours = await verifyExport(createReadStream(path), path).then(
          () => 0,
          () => 1,
        );
        assert.is(verify(path).code, ours, `line ${at} ${what}`);
        // Without the checkpoint between them two batches are one.
        if (ours === 0) held += 1;
      }
    }
    assert.is(held, 3);
    refused(log(lines.slice(0, -1)), /entries without a checkpoint/, 'no last checkpoint');
    refused(file(exportOf(FIXTURE).subarray(0, -1)), /unterminated/, 'no last newline');
    refused(file(''), /not one checkpoint/, 'nothing');
    const folder = join(home, 'gap');
    cpSync(FIXTURE, folder, { recursive: true });
    rmSync(join(folder, FIRST));
    refused(folder, /should begin with entry 0/, 'the first segment is gone');
  },
);

check(
  'a handover by the recovery key changes the key; a checkpoint of the key before it, or of a stranger, does not hold',
  async () => {
    const folder = join(home, 'recovery');
    const storage = new FileStorage(folder);
    const log = await newLog(storage);
    await log.append([started(1)], TIME, 1).durable;
    await log.close();
    const next = signingKeyFromSeed(Buffer.alloc(32, 5));
    const copy = await LogCopy.open({ storage, mesh: log.meshId });
    const to = { founder: next.peer, logKey: next.publicKey, authority: 'recovery' as const };
    const handed = await copy.take(handoverBatch(copy.standing, to, OTHER_KEY, TIME).bytes);
    await copy.close();
    const before = readFileSync(join(folder, FIRST), 'utf8');
    const second = await Log.open({ storage, key: next });
    const { size, root } = await second.append([started(2)], TIME, 2).durable;
    await second.close();
    assert.equal([verify(folder).code, verify(folder).size, verify(folder).root], [0, size, root]);

    const lines = readFileSync(join(folder, FIRST), 'utf8').trimEnd().split('\n');
    for (const [key, what] of [
      [KEY, 'the key before'],
      [OTHER_KEY, 'the recovery key'],
    ] as const) {
      const { text } = makeCheckpoint({ origin: log.meshId, size, root }, key);
      refused(
        file(`${[...lines.slice(0, -1), JSON.stringify({ checkpoint: text })].join('\n')}\n`),
        /not signed by the key/,
        what,
      );
    }
    const { text } = makeCheckpoint({ origin: log.meshId, size: handed.size, root: handed.root }, KEY);
    const held = before.trimEnd().split('\n').slice(0, -1);
    refused(
      file(`${[...held, JSON.stringify({ checkpoint: text })].join('\n')}\n`),
      /not signed by the key/,
      'over it',
    );
    const forged = before.replace('"authority":"recovery"', '"authority":"founder"');
    refused(file(forged), /signature of the handover/, 'another authority');
  },
);

check('what a founder at work has written holds, and is the size and root it says itself', async () => {
  const mesh = new Mesh();
  try {
    const founder = await mesh.founder();
    for (let n = 0; n < 12; n += 1) await mesh.json(['invite']);
    const report = await mesh.json<{ mesh: string; size: number; root: string }>(['ledger', 'verify']);
    const path = join(home, 'founder.jsonl');
    assert.is((await mesh.hub(['ledger', 'export', '--output', path])).code, 0);
    await founder.end('SIGTERM');
    for (const log of [path, join(mesh.dir('hub'), 'log')]) {
      const said = verify(log, report.mesh);
      assert.equal([said.code, said.mesh, said.root], [0, report.mesh, report.root], said.why);
      assert.is(said.size, report.size);
    }
    const folder = join(home, 'damaged');
    mkdirSync(folder);
    const bytes = readFileSync(path);
    bytes[Math.floor(bytes.length / 2)]! ^= 8;
    writeFileSync(join(folder, FIRST), bytes);
    refused(folder, /0000000000000000\.jsonl line \d+/, 'a flipped bit');
  } finally {
    await mesh.close();
  }
});

test.run();
