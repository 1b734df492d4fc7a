import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Checkpoint } from '../../ledger/lines/checkpoint.ts';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { syncFolder } from '../../node/atomic-file.ts';
import { ConfigFile, readConfig } from '../../node/config.ts';
import { writeKey } from '../../node/daemon/identity.ts';
import { InstanceMark } from '../../node/daemon/instance-mark.ts';
import { defaultOwner } from '../../node/daemon/machine.ts';
import { proofFile } from '../../node/daemon/proof-file.ts';
import { type FolderPaths, folderPaths } from '../../node/folder.ts';
import { clearRepair } from '../../node/log-switch.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { newSigningKey, type SigningKey } from '../../protocol/keys.ts';
import type { Fork, ForkedObject } from '../cli/options.ts';
import { beginLog } from './begin-log.ts';
import { withRecoveryKey } from './init.ts';
import { openOffline } from './offline.ts';

/** Forks of forks that one folder keeps the logs of. */
const parentsMax = 100;

/**
 * `mesh-hub fork`: a copy of a founder's folder becomes a mesh of its own, whose genesis names the checkpoint it was copied
 * at. Cut short, the same command goes on: from the moment the old log is put aside the folder is no founder's.
 */
export const fork: Fork = async (options) => {
  const owner = defaultOwner();
  await requireCopy(options.dir);
  return withRecoveryKey(options.recoveryKeyFile, (recovery) => makeFork(options, owner, recovery));
};

/** Refuses the folder in which the founder ran: with its keys gone the old mesh would have none. Only reads. */
async function requireCopy(dir: string): Promise<void> {
  const storage = new FileStorage(folderPaths(dir).log);
  // No folder, or a fork that was cut short.
  if ((await storage.list()).length === 0) return;
  const log = await Log.open({ storage, key: null });
  const { meshId: mesh, size, checkpoint } = log;
  await log.close();
  const { kind } = await new InstanceMark(dir).read({ mesh, size, root: checkpoint.root });
  if (kind === 'strange') return;
  throw new SuperfleetError('SF_CONFLICT', `a founder of this mesh ran in ${dir}: it is no copy`, {
    expected: 'a copy of the folder, in which no founder ran yet',
    got: dir,
    hint: `copy it first, with the founder stopped: cp -a ${dir} COPY, then mesh-hub fork --dir COPY`,
  });
}

async function makeFork(
  { dir, user, name, recoveryKeyFile }: Parameters<Fork>[0],
  owner: string,
  recovery: SigningKey,
): Promise<ForkedObject> {
  const folder = await openOffline({ dir, create: false, user });
  try {
    const { paths } = folder;
    const config = new ConfigFile(paths.config, await readConfig(paths.config));
    const { parent, oldName } = await putAside(paths);
    await clearRepair(paths);
    // Keys of the old mesh, its results, and all that is made of its log.
    const old = [paths.identityKey, paths.logKey, paths.scrubbed, paths.membership, paths.roster];
    const made = [paths.index, paths.tiles, paths.snapshots, paths.blobs, paths.attempts, paths.results];
    for (const path of [...old, ...made, paths.repositories, paths.checkpoint]) {
      await rm(path, { recursive: true, force: true });
    }
    const [identity, logKey] = [newSigningKey(randomBytes), newSigningKey(randomBytes)];
    await writeKey(paths.identityKey, identity);
    await writeKey(paths.logKey, logKey);
    const log = await beginLog(new FileStorage(paths.repairingLog), {
      name: name ?? oldName,
      owner: config.config.owner ?? owner,
      founder: identity.peer,
      logKey,
      recoveryKey: recovery.publicKey,
      parent: { mesh: parent.origin, checkpoint: parent.text },
    });
    const { meshId: mesh, size, checkpoint } = log;
    await log.close();
    await config.change({ kind: 'hub', name: name ?? oldName, mesh: null, founder: null });
    await mkdir(paths.log, { recursive: true, mode: 0o700 });
    await rmdir(paths.log);
    await rename(paths.repairingLog, paths.log);
    await syncFolder(paths.root);
    return {
      mesh,
      name: name ?? oldName,
      founder: identity.peer,
      size,
      root: checkpoint.root,
      parent: { mesh: parent.origin, size: parent.size, root: parent.root },
      recoveryKeyFile,
    };
  } finally {
    await folder.release();
  }
}

/** Gives the old log another name, unless a fork that was cut short did; answers its last checkpoint. */
async function putAside(paths: FolderPaths): Promise<{ parent: Checkpoint; oldName: string }> {
  const names = Array.from({ length: parentsMax }, (_, n) => `${paths.root}/log.parent-${n + 1}`);
  const next = names.findIndex((path) => !existsSync(path));
  if (next === -1) throw new SuperfleetError('SF_FULL', `${paths.root} was forked ${parentsMax} times`);
  const cutShort = next > 0 && (await new FileStorage(paths.log).list()).length === 0;
  const old = cutShort ? names[next - 1]! : paths.log;
  const log = await Log.open({ storage: new FileStorage(old), key: null });
  const { checkpoint, genesis } = log;
  await log.close();
  const found = { parent: checkpoint, oldName: genesis.name };
  if (cutShort) return found;
  await rename(old, names[next]!);
  // Of the old mesh: here it would keep the new one from starting.
  const proof = proofFile(paths.root);
  if (existsSync(proof)) await rename(proof, join(names[next]!, basename(proof)));
  await syncFolder(paths.root);
  return found;
}
