import type { Logger } from 'pino';
import type { Log } from '../../ledger/log/log.ts';
import { type Equivocation, equivocationError } from '../../ledger/proofs/witness.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { InstanceMark, type Standing } from '../../node/daemon/instance-mark.ts';
import type { Lifetime } from '../../node/daemon/process.ts';
import { keepProof, keptProof, proofFile } from '../../node/daemon/proof-file.ts';
import type { Stage } from '../../node/daemon/stage.ts';
import type { FolderPaths } from '../../node/folder.ts';
import { acceptSessions, type FounderSessions } from '../../node/network/founder-sessions.ts';
import type { Host } from '../../node/network/host.ts';
import { type Access, Registry } from '../../node/network/registry.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import type { StartHubOptions } from '../cli/options.ts';
import { FounderGuard } from './guard.ts';
import { createHeldApp, FounderSocket, heldError } from './held.ts';
import { CONFIG_HINT } from './init.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { Relieved } from './relieved.ts';

/** What a founder works with once it is sure of its log. */
export interface SureLog {
  ledger: Ledger;
  logKey: SigningKey;
  host: Host;
  registry: Registry;
  access: Access;
  sessions: FounderSessions;
  /** Holds the sessions that came meanwhile; to be opened. */
  guard: FounderGuard;
  relieved: Relieved;
  socket: FounderSocket;
  /** Aborted when the process ends. */
  ending: AbortController;
}

/**
 * Opens the log of a founder's folder and holds it against what members saw, before anything is signed, sent or answered
 * (promises 2, 5 and 8). Rejects with `SF_FENCED` where another founder leads, `SF_EQUIVOCATION` where two histories are
 * signed, `SF_BEHIND` where it would wait and `giveUp` says not to.
 */
export async function openSureLog(
  stage: Stage,
  { giveUp, onWaiting }: { giveUp: boolean } & Pick<StartHubOptions, 'onWaiting'>,
): Promise<SureLog> {
  const { machine, lifetime } = stage;
  const { folder, logger, config } = machine;
  const { paths } = folder;
  const logKey = await readKey(paths.logKey);
  if (config.kind === 'hub' && logKey === null) throw withoutKey(paths);
  if (config.kind === null && logKey !== null) {
    throw new SuperfleetError('SF_CONFLICT', 'nothing says what this data folder is', {
      expected: `${paths.config}, as \`mesh-hub init\` wrote it`,
      got: 'a log key, and no config or one that does not say',
      hint: CONFIG_HINT(paths.config),
    });
  }
  if (config.kind !== 'hub' || logKey === null) {
    throw new SuperfleetError('SF_CONFLICT', 'this data folder is not a founder’s', {
      expected: 'a data folder that was made by `mesh-hub init`',
      got: config.kind === 'node' ? 'a member’s data folder' : paths.root,
      hint: 'mesh-hub init',
    });
  }

  const mark = new InstanceMark(paths.root);
  // After the log is closed: what stands there then is what a clean stop left.
  let opened: Log | null = null;
  lifetime.onStop(() => (opened === null ? undefined : stopped(mark, opened, lifetime)));
  const ledger = await openLedger(machine, logKey, lifetime);
  const { log, archive, state, genesisLine } = ledger;
  if (log.leadership.founder !== machine.key.peer) throw strangeIdentity(paths, log, machine.key.peer);
  const host = await stage.network(log.epoch === 1 ? 'fixed' : 'preferred');
  const access: Access = {
    isFounder: (peer) => peer === host.peer,
    isMember: (peer) => state.members.byPeer.get(peer)?.standing === 'active',
    isRevoked: (peer) => state.members.byPeer.get(peer)?.standing === 'revoked',
  };
  const registry = new Registry(host, access, {}, (error, peer, protocol) =>
    logger.debug({ code: error.code, peer, protocol }, error.message),
  );
  lifetime.onStop(() => registry.stop());
  const ending = new AbortController();
  const frozen = await keptProof(paths.root);
  if (frozen !== null) throw equivocationError(frozen, proofFile(paths.root));
  const guard = new FounderGuard({
    log,
    state,
    self: host.peer,
    marked: await mark.read(standingOf(log)),
    host,
    logger,
    keepProof: (equivocation) => keepProofOrSay(paths.root, equivocation, logger),
    giveUp,
    signal: ending.signal,
    onWaits: () => {
      void socket.serve(held);
      onWaiting(heldError(guard));
    },
  });
  const socket = new FounderSocket(paths.root);
  lifetime.onStop(() => socket.close());
  const stopHeld = () => ending.abort(new SuperfleetError('SF_INTERRUPTED', 'the founder was stopped'));
  const held = createHeldApp({ log, state, archive, guard, stop: stopHeld });
  lifetime.onStop(() => guard.close());
  const sessions = await acceptSessions({
    registry,
    mesh: log.meshId,
    onSession: guard.attach,
    // The core tells a restart from a second machine with the same identity.
    keepOlder: true,
  });
  lifetime.onStop(() => sessions.stop());
  const relieved = new Relieved({ log, genesisLine, host, state: () => state, logger, places: paths.places });
  lifetime.onStop(() => relieved.close());
  await relieved.ask();
  await guard.sure();
  // One that is stopped before leaves the mark as it is: the next start has to be as careful.
  opened = log;
  await mark.running(standingOf(log)).catch((cause: unknown) => {
    logger.warn(
      { cause: String(cause) },
      'the mark of this founder cannot be kept: each start will ask the members',
    );
  });
  lifetime.onStop(
    mark.keepUp(
      (grown) => log.subscribe(grown),
      () => standingOf(log),
    ),
  );
  return { ledger, logKey, host, registry, access, sessions, guard, relieved, socket, ending };
}

const standingOf = ({ meshId, checkpoint: { size, root } }: Log): Standing => ({ mesh: meshId, size, root });

/** The mark of an orderly stop; whoever failed leaves none, so that the next start asks. */
async function stopped(mark: InstanceMark, log: Log, lifetime: Lifetime): Promise<void> {
  if (lifetime.failure === null && log.failure === null) await mark.stopped(standingOf(log)).catch(() => {});
}

/** Where the proof lies; null: this disk does not take it, and the founder ends all the same. */
export const keepProofOrSay = (
  root: string,
  equivocation: Equivocation,
  logger: Logger,
): Promise<string | null> =>
  keepProof(root, equivocation).catch((thrown: unknown) => {
    logger.error({ code: asSuperfleetError(thrown).code }, 'the proof of two histories could not be kept');
    return null;
  });

/** A folder that was copied by half: under another identity no member would take this for its founder. */
const strangeIdentity = ({ identityKey }: FolderPaths, log: Log, peer: string): SuperfleetError =>
  new SuperfleetError('SF_FOLDER', `${identityKey} is not the key of the founder that this log names`, {
    expected: `the key of ${log.leadership.founder}`,
    got: `the key of ${peer}, made here where there was none`,
    hint: `put back ${identityKey} of that founder, from the folder this one was copied from or from a backup`,
  });

/** The folder of an imported log, or one whose key was lost. */
const withoutKey = ({ root, logKey, identityKey }: FolderPaths): SuperfleetError =>
  new SuperfleetError('SF_REFUSED', `${root} holds a log, but not the key that signs it`, {
    expected: logKey,
    got: 'no such file',
    hint: `put ${logKey} and ${identityKey} of its founder there; where they are lost, lead the mesh from here by its recovery key: mesh-hub promote. The log can be read as it is: mesh-hub ledger verify`,
  });
