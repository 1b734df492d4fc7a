import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../../ledger/log/log.ts';
import { FileStorage } from '../../../ledger/storage/storage-file.ts';
import { readKey } from '../../../node/daemon/identity.ts';
import { folderPaths } from '../../../node/folder.ts';
import { Mesh } from '../../net/mesh.ts';

/** `mesh-hub init` as a process, and what a loss of power leaves of it. */
const withMesh = (body: (mesh: Mesh, init: () => Promise<string>) => Promise<void>) => async () => {
  const mesh = new Mesh();
  let keys = 0;
  const init = async (): Promise<string> => {
    const key = join(mesh.home, `recovery-${++keys}.key`);
    const done = await mesh.hub(['init', '--json', '--recovery-key', key]);
    if (done.code === 0) return 'made';
    return (JSON.parse(done.stderr) as { error: { message: string } }).error.message;
  };
  try {
    await body(mesh, init);
  } finally {
    await mesh.close();
  }
};

const paths = (mesh: Mesh) => folderPaths(mesh.dir('hub'));

test(
  'a mesh that was begun and not logged is made by the next init',
  withMesh(async (mesh, init) => {
    assert.is(await init(), 'made');
    rmSync(paths(mesh).config);
    rmSync(paths(mesh).log, { recursive: true });
    assert.is(await init(), 'made');
    await mesh.startFounder();
  }),
);

test(
  'a mesh is never made over another, nor over what is left of one',
  withMesh(async (mesh, init) => {
    await init();
    assert.match(await init(), /already/);
    // The log is lost: a backup may still bring it back.
    rmSync(paths(mesh).log, { recursive: true });
    assert.match(await init(), /already/);
  }),
);

test(
  'a mesh whose making was cut short after its first entries is told apart',
  withMesh(async (mesh, init) => {
    await init();
    writeFileSync(paths(mesh).config, '{}\n');
    assert.match(await init(), /cut short/);
  }),
);

test(
  'a founder’s folder without its config is called what it is: nobody is told to remove it, or to make another mesh in it',
  withMesh(async (mesh, init) => {
    await init();
    const { log: folder, logKey, config } = paths(mesh);
    const log = await Log.open({ storage: new FileStorage(folder), key: await readKey(logKey) });
    const by = { kind: 'local', user: 'ada', claimed: true } as const;
    await log.append([{ type: 'mesh.paused', body: { by } }], Date.now(), 1).durable;
    await log.close();
    rmSync(config);
    const refused = await init();
    assert.not.match(refused, /nobody has used/);
    assert.match(refused, /holds the log of a mesh/);
    const start = await mesh.hub(['start', '--port', '0', '--json']);
    const { error } = JSON.parse(start.stderr.trim().split('\n').at(-1)!) as { error: { hint: string } };
    assert.match(error.hint, /Put back .*config\.json/);
    // What the hint says is enough.
    writeFileSync(config, '{"kind":"hub"}');
    await mesh.startFounder();
  }),
);

test.run();
