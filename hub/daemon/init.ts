import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { chown, open, rm } from 'node:fs/promises';
import { scanLog } from '../../ledger/log/scan.ts';
import { applyEntry, initialState, knownEntry } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject } from '../../node/api/objects.ts';
import { readConfig } from '../../node/config.ts';
import { readOrMakeKey } from '../../node/daemon/identity.ts';
import { markFolder } from '../../node/daemon/instance-mark.ts';
import { defaultName, defaultOwner, openMachine } from '../../node/daemon/machine.ts';
import { folderPaths } from '../../node/folder.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { RandomBytes } from '../../protocol/ids.ts';
import { newSigningKey, type SigningKey } from '../../protocol/keys.ts';
import type { InitHub, InitOptions, InitResult } from '../cli/options.ts';
import { beginLog } from './begin-log.ts';
import { secretsFolder } from './secrets.ts';

const random: RandomBytes = (length) => randomBytes(length);

/**
 * `mesh-hub init`: keys, genesis, and the founder's own membership. The recovery key is written first, outside the
 * data folder and never over a file that is there: a mesh without one could not outlive its founder.
 */
export const initHub: InitHub = async (options: InitOptions): Promise<InitResult> => {
  const { dir, recoveryKeyFile } = options;
  await requireNoMesh(dir);
  return withRecoveryKey(recoveryKeyFile, async (recovery) => ({
    mesh: await makeMesh(options, recovery.publicKey),
    recoveryKeyFile,
  }));
};

/** Makes a mesh with a new recovery key, whose file is written before and taken away again where the making fails. */
export async function withRecoveryKey<T>(
  recoveryKeyFile: string,
  make: (recovery: SigningKey) => Promise<T>,
): Promise<T> {
  const recovery = newSigningKey(random);
  await writeRecoveryKey(recoveryKeyFile, Buffer.from(recovery.seed).toString('base64'));
  try {
    return await make(recovery);
  } catch (error) {
    // A key of a mesh that was never made would only mislead. Root may have been given up by now.
    const left = await rm(recoveryKeyFile, { force: true }).then(
      () => false,
      () => true,
    );
    if (!left) throw error;
    const { code, message, expected, got, hint } = asSuperfleetError(error);
    const remove = `then remove the key of the mesh that was not made, and run this again: rm ${recoveryKeyFile}`;
    throw new SuperfleetError(code, message, {
      expected,
      got,
      hint: hint === null ? remove.slice('then '.length) : `${hint}; ${remove}`,
      cause: error,
    });
  }
}

/** A folder in which a mesh was begun and nothing of it was logged is as good as an empty one. */
async function requireNoMesh(dir: string): Promise<void> {
  const paths = folderPaths(dir);
  const { kind } = await readConfig(paths.config);
  const logged = existsSync(paths.log) && readdirSync(paths.log).length > 0;
  if (kind === null && logged && (await wasUsed(paths.log))) {
    throw new SuperfleetError('SF_EXISTS', `${dir} holds the log of a mesh, and no config`, {
      expected: 'a folder that is absent or empty',
      got: `no ${paths.config}`,
      hint: CONFIG_HINT(paths.config),
    });
  }
  if (kind === null && logged) {
    throw new SuperfleetError(
      'SF_EXISTS',
      `making the mesh in ${dir} was cut short, and nobody has used it`,
      {
        expected: 'a folder that is absent or empty',
        hint: `remove that folder and its recovery key, then run this again`,
      },
    );
  }
  if (kind === null && !existsSync(paths.membership)) return;
  throw new SuperfleetError('SF_EXISTS', `there is a mesh or a membership in ${dir} already`, {
    expected: 'a folder that is absent or empty',
    hint: 'start it with `mesh-hub start`, or name another folder with --dir',
  });
}

/** What to do about a founder's folder that was copied without its config. */
export const CONFIG_HINT = (config: string): string =>
  `remove nothing. Put back ${config} of this founder; where it is lost, {"kind":"hub"} in it will do. Then mesh-hub start`;

/** Whether more is in a log than its making puts there: the genesis and the founder's own membership. */
async function wasUsed(folder: string): Promise<boolean> {
  // A torn tail is what a making that was cut short leaves; damage is of a log that was more.
  return scanLog(new FileStorage(folder), { signatures: 'recent' }).then(
    ({ chain }) => chain.settled.frontier.size > 2,
    () => true,
  );
}

async function makeMesh(options: InitOptions, recoveryKey: Uint8Array): Promise<MeshObject> {
  const { dir, user, port } = options;
  const owner = options.owner ?? defaultOwner();
  const machine = await openMachine({
    dir,
    create: true,
    user,
    logLevel: 'error',
    logFormat: 'text',
    beside: [secretsFolder(dir), markFolder(dir)],
  });
  try {
    const name = options.name ?? defaultName();
    const { paths } = machine.folder;
    const logKey = await readOrMakeKey(paths.logKey);
    const log = await beginLog(new FileStorage(paths.log), {
      name,
      owner,
      founder: machine.key.peer,
      logKey,
      recoveryKey,
      parent: null,
    });
    const { size, root } = log.checkpoint;
    await machine.configure({ kind: 'hub', name, owner, ...(port === null ? {} : { port }) });
    const state = initialState();
    for await (const entry of log.entries()) applyEntry(state, entry, knownEntry(entry));
    await log.close();
    return {
      mesh: log.meshId,
      name,
      epoch: state.mesh.epoch,
      founder: machine.key.peer,
      size,
      root,
      paused: false,
      draining: false,
      nodes: { online: 0, total: 1 },
      slots: { used: 0, total: 0 },
      queue: { queued: 0, running: 0 },
      warnings: machine.report.lacks.map(({ what }) => `no tasks run on this machine: ${what}`),
    };
  } finally {
    await machine.close();
  }
}

async function writeRecoveryKey(path: string, key: string): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${key}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    // Run by sudo: the person who typed it must be able to take it away.
    const { SUDO_UID, SUDO_GID } = process.env;
    if (process.getuid?.() === 0 && SUDO_UID !== undefined && SUDO_GID !== undefined) {
      await chown(path, Number(SUDO_UID), Number(SUDO_GID));
    }
  } catch (cause) {
    const taken = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new SuperfleetError(
      taken ? 'SF_EXISTS' : 'SF_FOLDER',
      `the recovery key cannot be written to ${path}`,
      {
        expected: taken ? 'a name that is free' : 'a folder that can be written',
        got: (cause as Error).message,
        hint: 'name another file with --recovery-key FILE',
        cause,
      },
    );
  }
}
