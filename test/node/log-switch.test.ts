import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { folderPaths, openFolder } from '../../node/folder.ts';
import { clearRepair, replaceLog } from '../../node/log-switch.ts';

/** A process that dies by SIGKILL at its so many-th change of names, before or after it is done. */
const dying = (root: string, call: number, when: 'before' | 'after'): string => `
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const { rename } = fs.promises;
let calls = 0;
fs.promises.rename = async (...names) => {
  calls += 1;
  if (calls === ${call} && '${when}' === 'before') process.kill(process.pid, 'SIGKILL');
  await rename(...names);
  if (calls === ${call} && '${when}' === 'after') process.kill(process.pid, 'SIGKILL');
};
syncBuiltinESMExports();
const { folderPaths } = await import(${JSON.stringify(new URL('../../node/folder.ts', import.meta.url).href)});
const { replaceLog } = await import(${JSON.stringify(new URL('../../node/log-switch.ts', import.meta.url).href)});
await replaceLog(folderPaths(${JSON.stringify(root)}));
`;

async function withFolder(run: (root: string) => Promise<void>): Promise<void> {
  const parent = await mkdtemp(join(tmpdir(), 'superfleet-switch-'));
  const root = join(parent, 'data');
  try {
    await (await openFolder(root, { create: true })).release();
    const paths = folderPaths(root);
    writeFileSync(join(paths.log, 'said'), 'old');
    mkdirSync(paths.repairingLog);
    writeFileSync(join(paths.repairingLog, 'said'), 'new');
    await run(root);
  } finally {
    await rm(parent, { recursive: true });
  }
}

const said = (folder: string): string => readFileSync(join(folder, 'said'), 'utf8');

test('a repaired log takes the place of the old one, which is kept under a name that was free', () =>
  withFolder(async (root) => {
    const paths = folderPaths(root);
    mkdirSync(`${paths.damagedLog}-1`);
    assert.is(await replaceLog(paths), `${paths.damagedLog}-2`);
    assert.equal([said(paths.log), said(`${paths.damagedLog}-2`)], ['new', 'old']);
    assert.not.ok(existsSync(paths.repairedLog));
  }));

test('killed at any step, whoever opens the folder finds the old log or the new one, whole, and the old one is kept', async () => {
  const found = new Set<string>();
  for (const call of [1, 2, 3]) {
    for (const when of ['before', 'after'] as const) {
      await withFolder(async (root) => {
        const paths = folderPaths(root);
        const args = ['--input-type=module', '-e', dying(root, call, when)];
        assert.is(spawnSync(process.execPath, args).signal, 'SIGKILL');
        await (await openFolder(root)).release();
        found.add(said(paths.log));
        const kept = readdirSync(root).filter((name) => name.startsWith('log.damaged'));
        if (said(paths.log) === 'new')
          assert.equal(
            kept.map((name) => said(join(root, name))),
            ['old'],
          );
        else assert.equal(kept, []);
        // The next repair begins anew, and takes nothing from the one that was cut short.
        await clearRepair(paths);
        assert.not.ok(existsSync(paths.repairingLog) || existsSync(paths.repairedLog));
      });
    }
  }
  assert.equal([...found].sort(), ['new', 'old']);
});

test.run();
