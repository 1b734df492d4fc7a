import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildReceipt } from '../../protocol/receipt.ts';
import { signStatement } from '../../protocol/statement.ts';
import { fileBytes, keys, mesh, receipt, verification } from './samples.ts';

const openssl = opensslMajor();
const here = openssl >= 3 ? test : test.skip;
if (openssl < 3) console.log('skipped: openssl 3.0 or newer is not installed here');

test('the document is about openssl and has commands to run', () => {
  assert.ok(commands().length >= 5);
  assert.match(commands().join('\n'), /openssl pkeyutl -verify -pubin .* -rawin/);
});

here('the commands of docs/receipts.md prove a receipt file with openssl alone', () => {
  for (const shell of ['sh', 'bash']) {
    const { status, stdout, stderr } = follow(fileBytes(), mesh, shell);
    assert.is(status, 0, stderr);
    assert.is(stdout.match(/^Signature Verified Successfully$/gm)?.length, 4, stdout);
    assert.ok(stdout.includes(`mesh id: ${mesh}\n`));
    assert.ok(stdout.includes(`receipt: ${verification.receipt}\n`));
    assert.match(stdout, /"result":"PASSED"/);
    assert.match(stdout, /"exitCode":0/);
  }
});

here('the commands of docs/receipts.md fail for another mesh, a changed file and another signer', () => {
  assert.is.not(follow(fileBytes(), '0'.repeat(64)).status, 0);
  for (const field of ['payload', 'sig']) {
    for (let nth = 0; nth < 4; nth += 1) {
      assert.is.not(follow(changed(field, nth), mesh).status, 0, `${field} ${nth + 1}`);
    }
  }
  const forged = signStatement(buildReceipt({ ...receipt, exitCode: 0 }), keys.stranger);
  assert.is.not(follow(fileBytes({ receipt: forged }), mesh).status, 0);
});

test.run();

/** The fenced `sh` blocks, in order. */
function commands(): string[] {
  const text = readFileSync(new URL('../../docs/receipts.md', import.meta.url), 'utf8');
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
}

function follow(file: Uint8Array, id: string, shell = 'sh') {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-receipts-'));
  try {
    writeFileSync(join(folder, 'receipt.json'), file);
    const env = { PATH: process.env.PATH ?? '', MESH: id };
    return spawnSync(shell, ['-c', commands().join('\n')], {
      cwd: folder,
      env,
      encoding: 'utf8',
      timeout: 20_000,
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The file with one character in the middle of the nth field of this name changed. */
function changed(field: string, nth: number): Uint8Array {
  const text = Buffer.from(fileBytes()).toString();
  const match = [...text.matchAll(new RegExp(`"${field}": "([^"]*)"`, 'g'))][nth]!;
  const at = match.index + match[0].length - Math.floor(match[1]!.length / 2);
  return Buffer.from(text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1));
}

function opensslMajor(): number {
  try {
    return Number(
      /^OpenSSL (\d+)/.exec(execFileSync('openssl', ['version'], { encoding: 'utf8' }))?.[1] ?? 0,
    );
  } catch {
    return 0;
  }
}
