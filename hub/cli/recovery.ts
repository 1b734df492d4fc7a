import { resolve } from 'node:path';
import { cell } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { ImportLedger, RepairLedger } from './options.ts';
import type { RecoveryCommand } from './recovery-grammar.ts';

/** Runs what brings a log or a data folder back. */
export async function runRecovery(
  command: Exclude<RecoveryCommand, { verb: 'ledger scrub' }>,
  session: Session,
): Promise<number> {
  return command.verb === 'ledger repair' ? repair(command, session) : importLog(command, session);
}

async function repair(
  { from, acceptLoss, user }: Extract<RecoveryCommand, { verb: 'ledger repair' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice } = session;
  const { repairLedger } = (await import('../daemon/repair.ts')) as { repairLedger: RepairLedger };
  const done = await repairLedger({ dir, user, from: resolve(terminal.cwd, from), acceptLoss });
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
