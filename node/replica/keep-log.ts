import type { Logger } from 'pino';
import { cosign } from '../../ledger/cosignature.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import type { Membership } from '../daemon/membership.ts';
import type { Lifetime } from '../daemon/process.ts';
import type { FolderPaths } from '../folder.ts';
import type { Host } from '../network/host.ts';
import { Neighbours } from '../network/neighbours.ts';
import type { Registry } from '../network/registry.ts';
import { Frozen } from './frozen.ts';
import { CopyReader } from './read-copy.ts';
import { Replica } from './replica.ts';
import { LogSource } from './source.ts';

export interface KeepLogOptions {
  host: Host;
  /** This machine's identity: a replica cosigns by it what it has verified and synced. */
  key: SigningKey;
  registry: Registry;
  membership: Membership;
  paths: Pick<FolderPaths, 'root' | 'log' | 'index'>;
  logger: Logger;
  lifetime: Pick<Lifetime, 'onStop'>;
  /** Newest checkpoint this machine has seen. */
  checkpoint(): string | null;
  /** The mesh changed hands: the founder is another one from here on. */
  onHandover(): void;
  /** Two histories are signed: nothing more is taken from the founder. */
  onFreeze(error: SuperfleetError): void;
}

/** What a member keeps of the log: a replica's copy, or only what it has seen. */
export interface KeptLog {
  neighbours: Neighbours;
  frozen: Frozen;
  /** Null: this machine is no replica. */
  replica: Replica | null;
  /** Answers from the copy. */
  reader: CopyReader | null;
}

/**
 * Every member tells others what it has seen of the log; a replica follows it, keeps a copy, and serves that to other
 * replicas. All of it ends with `lifetime`.
 */
export async function keepLog(options: KeepLogOptions): Promise<KeptLog> {
  const { host, registry, membership, paths, logger, lifetime } = options;
  const neighbours = new Neighbours(host, (peer) => membership.isMember(peer));
  lifetime.onStop(() => neighbours.close());
  const { mesh } = membership.genesis;
  const frozen = await Frozen.load({
    root: paths.root,
    membership,
    host,
    logger,
    onFreeze: (error) => options.onFreeze(error),
  });
  const takeHandovers = async (lines: readonly string[]): Promise<void> => {
    if (lines.length === 0 || !(await membership.takeHandovers(lines, neighbours))) return;
    await frozen.thaw();
    options.onHandover();
  };
  const replica: Replica | null = membership.certificate.roles.includes('replica')
    ? await Replica.open({
        host,
        mesh,
        storage: new FileStorage(paths.log),
        neighbours,
        founder: () => ({ peer: membership.founder, addresses: membership.addresses }),
        replicas: () => membership.replicas(),
        cosign: (text) =>
          cosign(text, { name: host.peer, key: options.key, time: Math.floor(Date.now() / 1000) }),
        onTip: async (_peer, { handovers, at, conflict }) => {
          await takeHandovers(handovers);
          if (conflict !== undefined) await frozen.take(conflict, neighbours);
          const own = replica?.copy?.checkpoint;
          // At the size of ours it has signed something: the same, or proof against itself.
          if (own !== undefined && at !== null) await frozen.take([own.text, at], neighbours);
          if (frozen.error !== null) throw frozen.error;
        },
        onHandover: (lines) => {
          takeHandovers(lines).catch((cause: unknown) => {
            logger.error({ cause: String(cause) }, 'the change of founder could not be kept');
          });
        },
        onEvent: ({ peer, error }) => {
          if (error === null) logger.info({ peer }, 'follows the log');
          else logger.debug({ peer, code: error.code }, `the log is not followed: ${error.message}`);
        },
      })
    : null;
  const reader =
    replica === null
      ? null
      : await CopyReader.open({
          mesh,
          replica,
          indexPath: paths.index,
          checkpoint: options.checkpoint,
          why: () => frozen.error?.message ?? 'founder not reachable',
          logger,
          lifetime,
        });
  lifetime.onStop(() => replica?.stop());
  const source = await LogSource.serve({
    registry,
    mesh,
    log: () => replica?.copy ?? null,
    seen: () => ({
      checkpoint: options.checkpoint(),
      handovers: membership.leadership.handovers.map(({ line }) => line),
    }),
    conflict: () => frozen.proof?.checkpoints ?? null,
    onConflict: (checkpoints) => void frozen.take(checkpoints, neighbours),
    mayFollow: (peer) => membership.isFounder(peer) || membership.replicas().includes(peer),
  });
  lifetime.onStop(() => source.stop());
  frozen.start(neighbours);
  lifetime.onStop(() => frozen.close());
  replica?.start();
  return { neighbours, frozen, replica, reader };
}
