import { existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import type { Logger } from 'pino';
import { cosign } from '../../ledger/lines/cosignature.ts';
import { fileBeginning } from '../../ledger/log/beginning-file.ts';
import type { LogCopy } from '../../ledger/log/log-copy.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';
import type { Place } from '../../protocol/session.ts';
import type { BlobStore } from '../blobs/types.ts';
import type { Membership } from '../daemon/membership.ts';
import type { Lifetime } from '../daemon/process.ts';
import { divergesFrom } from '../daemon/succession.ts';
import type { FolderPaths } from '../folder.ts';
import { fetchBlobs } from '../network/blob-client.ts';
import type { Host } from '../network/host.ts';
import { Neighbours } from '../network/neighbours.ts';
import type { Registry } from '../network/registry.ts';
import { ReplicaBlobs } from './blobs.ts';
import { Frozen } from './frozen.ts';
import { heedTip } from './heed-tip.ts';
import { lookForFounder } from './look.ts';
import { CopyReader } from './read-copy.ts';
import { Replica } from './replica.ts';
import { type Estate, LogSource } from './source.ts';

export interface KeepLogOptions {
  host: Host;
  /** This machine's identity: a replica cosigns by it what it has verified and synced. */
  key: SigningKey;
  registry: Registry;
  membership: Membership;
  blobs: BlobStore;
  /** Where the founder may be. */
  addresses(): readonly string[];
  /** It keeps a copy of the log. */
  isReplica: boolean;
  /** What would sign the log if this machine were made the founder; null: it cannot be. */
  nextKey: SigningKey | null;
  paths: Pick<FolderPaths, 'root' | 'log' | 'index'>;
  logger: Logger;
  lifetime: Pick<Lifetime, 'onStop'>;
  /** Newest checkpoint this machine has seen. */
  checkpoint(): string | null;
  /** The founder answers this machine now. */
  online(): boolean;
  /** The mesh changed hands: the founder is another one from here on. */
  onHandover(): void;
  /** Two histories are signed: nothing more is taken from the founder. */
  onFreeze(error: SuperfleetError): void;
  /** This machine's copy of the log names it the founder. */
  onMine(copy: LogCopy): void;
  /** The copy has entries that the mesh went on without: what runs here is to be begun anew. */
  onDiverged(): void;
  /** As of `LogSource`. @default nothing is left here */
  estate?(peer: string): Promise<Estate | null>;
}

/** What a member keeps of the log: a replica's copy, or only what it has seen. */
export interface KeptLog {
  neighbours: Neighbours;
  frozen: Frozen;
  /** Null: this machine is no replica. */
  replica: Replica | null;
  /** Answers from the copy. */
  reader: CopyReader | null;
  /** Blobs named in the log that are not here yet; null: it keeps none. */
  blobs: ReplicaBlobs | null;
  /** The founder of until now said that the mesh is another one's. */
  heardOf(handovers: readonly string[], addresses: readonly string[]): void;
  /** Where replicas listen, as the founder says. */
  replicasAt(places: readonly Place[]): void;
  /** The members are others now: who was told of as a replica before the roster named it is known from here on. */
  rosterTaken(): void;
}

/**
 * Every member tells others what it has seen of the log; a replica follows it, keeps a copy and what that names, and serves
 * it to other replicas. One that has lost its founder asks the others who leads the mesh. All of it ends with `lifetime`.
 */
export async function keepLog(options: KeepLogOptions): Promise<KeptLog> {
  const { host, registry, membership, paths, logger, lifetime, isReplica, nextKey } = options;
  const neighbours = new Neighbours(host, (peer) => membership.isMember(peer));
  const knowReplicas = (): void => {
    for (const { peer, addresses } of membership.replicaPlaces) neighbours.tell(peer, addresses);
  };
  knowReplicas();
  lifetime.onStop(() => neighbours.close());
  const { mesh } = membership.genesis;
  const frozen = await Frozen.load({
    root: paths.root,
    membership,
    host,
    logger,
    onFreeze: (error) => options.onFreeze(error),
    onHandovers: (lines) => taking(lines),
  });
  let replica: Replica | null = null;
  const takeHandovers = async (
    lines: readonly string[],
    known: { addresses(peer: string): readonly string[] } = neighbours,
  ): Promise<void> => {
    if (lines.length === 0 || !(await membership.takeHandovers(lines, known))) return;
    await frozen.thaw();
    options.onHandover();
    const copy = replica?.copy ?? null;
    if (copy !== null && divergesFrom(copy, membership.leadership)) options.onDiverged();
  };
  const taking = (lines: readonly string[], known?: { addresses(peer: string): readonly string[] }): void => {
    takeHandovers(lines, known).catch((cause: unknown) => {
      logger.error({ cause: String(cause) }, 'the change of founder could not be kept');
    });
  };
  /** Only the copy makes this machine the founder, and only where nobody has led the mesh since. */
  const mine = (): void => {
    const copy = replica?.copy ?? null;
    if (copy === null || copy.leadership.founder !== host.peer) return;
    if (copy.epoch >= membership.leadership.epoch) options.onMine(copy);
  };
  const open = (): Promise<Replica> =>
    Replica.open({
      host,
      mesh,
      storage: new FileStorage(paths.log),
      beginning: fileBeginning(paths.log),
      neighbours,
      founder: () => ({ peer: membership.founder, addresses: options.addresses() }),
      replicas: () => membership.replicas(),
      cosign: (text) =>
        cosign(text, { name: host.peer, key: options.key, time: Math.floor(Date.now() / 1000) }),
      onTip: (_peer, tip) =>
        heedTip(tip, {
          own: replica?.copy?.checkpoint ?? null,
          takeHandovers,
          freeze: (checkpoints) => frozen.take(checkpoints, neighbours),
          frozen: () => frozen.error,
        }),
      onHandover: (lines) => {
        taking(lines);
        // The acknowledgement of these very bytes goes out first.
        setImmediate(mine);
      },
      onFrom: (from) => {
        if (from === 0) logger.info('holds the log from its first entry on');
        else
          logger.info({ from }, `began at a snapshot: entries before ${from} are fetched in the background`);
      },
      onFault: ({ code, message, hint }) => logger.error({ code, hint }, message),
      onConflict: (checkpoints) => void frozen.take(checkpoints, neighbours),
      onEvent: ({ peer, error }) => {
        if (error === null) logger.info({ peer }, 'follows the log');
        else logger.debug({ peer, code: error.code }, `the log is not followed: ${error.message}`);
      },
    });
  if (isReplica) {
    replica = await open();
    if (replica.copy !== null && divergesFrom(replica.copy, membership.leadership)) {
      const { size, epoch } = replica.copy;
      await replica.stop();
      const aside = await setAside(paths.log, epoch);
      logger.warn(
        { size, epoch, kept: aside },
        'this log went on after the mesh was handed over: it is set aside',
      );
      replica = await open();
    }
    // A copy may know of handovers that a crash kept from the membership.
    if (replica.copy !== null) await takeHandovers(replica.copy.leadership.handovers.map(({ line }) => line));
  }
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
  const stock = replica === null ? null : keepBlobs(options, neighbours);
  if (stock !== null) {
    lifetime.onStop(() => stock.stop());
    replica?.onBegun((copy) => {
      stock.start(copy);
      const { first } = copy;
      const failed = (cause: unknown): void => {
        logger.warn({ cause: String(cause) }, 'blobs of older entries are not fetched');
      };
      if (first > 0) replica?.onWhole((log) => void stock.older(log, first).catch(failed));
    });
  }
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
    ...(stock === null ? {} : { missing: () => stock.missing }),
    ...(nextKey === null
      ? {}
      : { next: () => ({ logKey: publicKeyToBase64(nextKey.publicKey), addresses: host.addresses() }) }),
    estate: async (peer) => (membership.isFounder(peer) ? ((await options.estate?.(peer)) ?? null) : null),
  });
  lifetime.onStop(() => source.stop());
  frozen.start(neighbours);
  lifetime.onStop(() => frozen.close());
  const stopLooking = lookForFounder({
    host,
    mesh,
    neighbours,
    online: () => options.online(),
    onTip: (tip) => takeHandovers(tip.handovers),
  });
  lifetime.onStop(stopLooking);
  replica?.start();
  mine();
  return {
    neighbours,
    frozen,
    replica,
    reader,
    blobs: stock,
    heardOf: (lines, addresses) => {
      taking(lines, { addresses: (peer) => [...plain(addresses), ...neighbours.addresses(peer)] });
    },
    replicasAt: (places) => {
      membership
        .keepReplicas(places.map(({ peer, addresses }) => ({ peer, addresses: plain(addresses) })))
        .catch((cause: unknown) =>
          logger.warn({ cause: String(cause) }, 'where replicas are could not be kept'),
        );
      knowReplicas();
    },
    rosterTaken: knowReplicas,
  };
}

function keepBlobs(
  { host, membership, blobs, addresses }: KeepLogOptions,
  neighbours: Neighbours,
): ReplicaBlobs {
  return new ReplicaBlobs({
    blobs,
    sources: () =>
      [...new Set([membership.founder, ...membership.replicas()])].filter((peer) => peer !== host.peer),
    fetch: async (peer, blob, signal) => {
      const known = peer === membership.founder ? addresses() : [];
      const at = [...neighbours.addresses(peer), ...known];
      await fetchBlobs(host, peer, [blob], blobs, signal, { addresses: at, triesMax: 2 });
    },
  });
}

/** Moves a log out of the way, under a name that is free; nothing of it is ever deleted. */
async function setAside(log: string, epoch: number): Promise<string> {
  let aside = `${log}.fenced-${epoch}`;
  for (let n = 2; existsSync(aside); n += 1) aside = `${log}.fenced-${epoch}-${n}`;
  await rename(log, aside);
  await mkdir(log, { mode: 0o700 });
  return aside;
}

const plain = (addresses: readonly string[]): string[] =>
  addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
