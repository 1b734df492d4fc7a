import type { Entry } from '../../ledger/lines/entry.ts';
import type { MeshObject } from '../../node/api/objects.ts';
import { entryText } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import type { HubCommand } from './command.ts';
import type { LedgerAccess, LedgerStep, OpenStoppedLog } from './options.ts';

export type LedgerCommand = Extract<
  HubCommand,
  { verb: 'ledger verify' | 'ledger tail' | 'ledger export' | 'ledger scrub' }
>;

/** Entries that `ledger tail` shows where no index is named. */
const tailEntries = 20;

export async function runLedger(command: LedgerCommand, session: Session): Promise<number> {
  const { signal } = session.terminal;
  switch (command.verb) {
    case 'ledger verify':
      return check(session, 'checking the log', async () => (await accessOf(session)).verify(signal));
    case 'ledger scrub':
      return check(session, 'reading the log anew', async () =>
        session.client().lines<LedgerStep>('POST', '/v1/ledger/scrub', signal),
      );
    case 'ledger tail':
      return tail(command, session, await accessOf(session, command.follow));
    case 'ledger export': {
      const { writeOutput } = await import('../../node/cli/output.ts');
      await writeOutput(session, (await accessOf(session)).export(signal), command.output);
      return EXIT.ok;
    }
  }
}

/** The founder where one answers; else, unless it is to be followed, the log of the folder, which is only read. */
async function accessOf(session: Session, follow = false): Promise<LedgerAccess> {
  const client = session.client();
  try {
    await client.get('/v1/process', session.terminal.signal);
  } catch (thrown) {
    const gone = thrown instanceof SuperfleetError && thrown.code === 'SF_UNREACHABLE';
    if (!gone || follow) throw thrown;
    const { openStoppedLog } = (await import('../daemon/stopped-log.ts')) as {
      openStoppedLog: OpenStoppedLog;
    };
    const stopped = await openStoppedLog(session.dir);
    if (stopped === null) throw thrown;
    return stopped;
  }
  return {
    verify: (signal) => client.lines<LedgerStep>('POST', '/v1/ledger/verify', signal),
    size: async () => (await client.get<MeshObject>('/v1/status')).size,
    entries: (from, followed, signal) =>
      client.lines<Entry>('GET', `/v1/ledger/entries?from=${from}&follow=${followed ? 1 : 0}`, signal),
    export: (signal) => client.bytes('/v1/ledger/export', signal),
  };
}

/** Whatever is waited for, a founder that does not answer among it, is waited for under the meter. */
async function check(
  session: Session,
  what: string,
  begin: () => Promise<AsyncIterable<LedgerStep>>,
): Promise<number> {
  const meter = session.voice.meter(what);
  try {
    for await (const { progress, report } of await begin()) {
      if (progress !== undefined)
        meter?.update({ what, done: progress.checked, total: progress.size, unit: 'entries' });
      if (report === undefined) continue;
      meter?.end();
      show(session, report, ({ from, size, root, checkpoints, segments, mesh }) => {
        const what = from === 0 ? `${size} entries` : `entries ${from} to ${size - 1}, behind a snapshot,`;
        return `the log of mesh ${mesh} holds: ${what} in ${segments} ${segments === 1 ? 'segment' : 'segments'}, ${checkpoints} signed checkpoints\nroot ${root}${from === 0 ? '' : `\nentries before ${from} are not here yet: nothing of them was checked`}`;
      });
    }
  } finally {
    meter?.end();
  }
  return EXIT.ok;
}

async function tail(
  command: Extract<LedgerCommand, { verb: 'ledger tail' }>,
  { voice, terminal }: Session,
  access: LedgerAccess,
): Promise<number> {
  const from = command.from ?? Math.max(0, (await access.size()) - tailEntries);
  const items: Entry[] = [];
  for await (const entry of access.entries(from, command.follow, terminal.signal)) {
    if (!voice.json) voice.out(entryText(entry));
    else if (command.follow) voice.document(entry);
    else items.push(entry);
  }
  if (voice.json && !command.follow) voice.document({ items, next: null });
  return EXIT.ok;
}
