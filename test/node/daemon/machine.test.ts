import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const here = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);

test('a start that fails leaves nothing open: neither the folder nor the database of blobs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sf-machine-'));
  // Started as root it gives that up for good: so it is a process of its own, and another account comes to the folder.
  chmodSync(folder, 0o755);
  try {
    const program = `
      const { openMachine } = await import(${here('../../../node/daemon/machine.ts')});
      const start = (logLevel) => openMachine({
        dir: ${JSON.stringify(join(folder, 'data'))}, create: true, user: null, logLevel, logFormat: 'json',
      });
      const machine = await start('warn');
      await machine.blobs.put(new Uint8Array(10));
      await machine.close();
      // After the database was opened.
      const failed = await start('nonsense').then(() => 'started', (error) => error.message);
      const again = await start('warn').then(async (one) => {
        const held = (await one.blobs.list()).length;
        await one.close();
        return held;
      }, (error) => error.code);
      console.log(JSON.stringify({ failed, again }));
    `;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: '/tmp' },
    });
    const said = JSON.parse(stdout.trim().split('\n').at(-1) || JSON.stringify(stderr));
    assert.match(said.failed, 'nonsense');
    assert.is(said.again, 1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
