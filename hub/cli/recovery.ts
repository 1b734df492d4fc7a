import { resolve } from 'node:path';
import type { MeshObject } from '../../node/api/objects.ts';
import { cell } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import type { BackUp, Fork, ImportLedger, RepairLedger, Restore } from './options.ts';
import type { RecoveryCommand } from './recovery-grammar.ts';

/** Runs what brings a log or a data folder back. */
export async function runRecovery(
  command: Exclude<RecoveryCommand, { verb: 'ledger scrub' }>,
  session: Session,
): Promise<number> {
  switch (command.verb) {
    case 'ledger repair':
      return repair(command, session);
    case 'ledger import':
      return importLog(command, session);
    case 'backup':
      return backup(command, session);
    case 'fork':
      return forkFolder(command, session);
    case 'restore':
      return restoreFolder(command, session);
  }
}

async function repair(
  { from, acceptLoss, user }: Extract<RecoveryCommand, { verb: 'ledger repair' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { repairLedger } = (await import('../daemon/repair.ts')) as { repairLedger: RepairLedger };
  const { namedPeer } = await import('../../node/replica/fetch-copy.ts');
  const source = namedPeer(from) === null ? resolve(terminal.cwd, from) : from;
  const done = await repairLedger({ dir, user, from: source, acceptLoss });
  if (done === null) {
    show(session, { changed: false }, () => 'the log holds, and the source has no more: nothing was changed');
    return EXIT.ok;
  }
  show(session, { changed: true, ...done }, ({ size, root, sound, taken, lost }) =>
    [
      `the log is whole: ${size} entries, ${sound} kept and ${taken} taken from ${cell(from)}`,
      ...(lost > 0 ? [`${lost} entries that the damaged log still proves are given up`] : []),
      `root ${root}`,
    ].join('\n'),
  );
  if (done.damage !== null) voice.note(`what was wrong: ${cell(done.damage)}`);
  if (done.kept !== null) voice.note(`the damaged log is kept: ${cell(done.kept)}`);
  return EXIT.ok;
}

async function importLog(
  { file, mesh, user }: Extract<RecoveryCommand, { verb: 'ledger import' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { importLedger } = (await import('../daemon/import-log.ts')) as { importLedger: ImportLedger };
  const made = await importLedger({ dir, user, file: resolve(terminal.cwd, file), mesh });
  show(session, made, ({ mesh: id, name, size, root }) =>
    [`${size} entries of mesh ${id} (${cell(name)}) are in ${cell(dir)}`, `root ${root}`].join('\n'),
  );
  if (mesh === null) {
    voice.note('warning: nothing here says that this is the mesh you mean: compare its id with one you know');
  }
  return EXIT.ok;
}

async function backup(
  { file, withSecrets, withoutBlobs }: Extract<RecoveryCommand, { verb: 'backup' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { backUp } = (await import('../daemon/backup.ts')) as { backUp: BackUp };
  const size = await session
    .client()
    .get<MeshObject>('/v1/status')
    .then(
      (mesh) => mesh.size,
      (thrown: unknown) => {
        if (thrown instanceof SuperfleetError && thrown.code === 'SF_UNREACHABLE') return null;
        throw thrown;
      },
    );
  const path = resolve(terminal.cwd, file);
  const made = await backUp({ dir, file: path, size, withSecrets, withoutBlobs });
  show(session, made, ({ size: entries, blobs, mesh, root }) =>
    [
      `${cell(path)} holds mesh ${mesh}: ${entries} entries, ${blobs === null ? 'no blobs' : `${blobs} blobs`}, its keys`,
      `root ${root}`,
    ].join('\n'),
  );
  voice.note('whoever has this file can be this founder: keep it where only you can read it');
  if (!made.secrets) voice.note('the values of secrets are not in it');
  return EXIT.ok;
}

async function restoreFolder(
  { file, user }: Extract<RecoveryCommand, { verb: 'restore' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { restore } = (await import('../daemon/restore.ts')) as { restore: Restore };
  const made = await restore({ dir, user, file: resolve(terminal.cwd, file) });
  show(session, made, ({ mesh, size, root }) =>
    [`${cell(dir)} is mesh ${mesh} at ${size} entries`, `root ${root}`].join('\n'),
  );
  voice.note(`next: ${session.typed} start --detach; the old founder must never run again beside it`);
  return EXIT.ok;
}

async function forkFolder(
  { name, recoveryKey, user }: Extract<RecoveryCommand, { verb: 'fork' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { fork } = (await import('../daemon/fork.ts')) as { fork: Fork };
  const recoveryKeyFile = resolve(terminal.cwd, recoveryKey ?? 'superfleet-recovery.key');
  const made = await fork({ dir, user, name, recoveryKeyFile });
  show(session, made, ({ mesh, name: called, parent }) =>
    [
      `${cell(dir)} is mesh ${mesh} (${cell(called)}) from now on`,
      `forked from ${parent.mesh} at ${parent.size} entries, root ${parent.root}`,
    ].join('\n'),
  );
  voice.note(`recovery key: ${recoveryKeyFile}`);
  voice.note('whoever has it can take the mesh over: keep it off this machine, and keep it');
  return EXIT.ok;
}
