import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Log } from '../../ledger/log/log.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { BlobStore } from '../../node/blobs/types.ts';
import { fetchBlobs } from '../../node/network/blob-client.ts';
import type { Host } from '../../node/network/host.ts';
import { ReplicaBlobs } from '../../node/replica/blobs.ts';
import { takeSecrets } from '../../node/replica/follow.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { FounderDriver } from './founder.ts';
import type { SecretStore } from './secrets.ts';

/** The founder before may still be becoming a member, or be away for days. */
const AGAIN_MS = { first: 500, max: 60_000 };
const SECRETS_MS = 10_000;

export interface InheritParts {
  log: Log;
  host: Pick<Host, 'peer' | 'dial'> & Host;
  blobs: BlobStore;
  secrets: SecretStore;
  driver: Pick<FounderDriver, 'step'>;
  logger: Logger;
  state(): MeshState;
}

/**
 * What a founder that took over still lacks of what the one before had: secrets, and blobs that the log names. Both are
 * fetched in the background from whoever has them. The founder that made the mesh lacks nothing. Answers with what ends it.
 */
export function inherit(parts: InheritParts): () => Promise<void> {
  const { log, host, blobs, driver, logger, state } = parts;
  if (log.epoch === 1) return async () => {};
  const ending = new AbortController();
  const { genesis, handovers } = log.leadership;
  const formers = [genesis.founder, ...handovers.map(({ body }) => body.founder)].reverse();
  const others = new Set([...formers, ...replicasOf(state())].filter((peer) => peer !== host.peer));
  const stock = new ReplicaBlobs({
    blobs,
    sources: () => [...others],
    fetch: async (peer, blob, signal) => {
      await fetchBlobs(host, peer, [blob], blobs, signal, { triesMax: 1 });
    },
    onChange: (lacking) => driver.step({ type: 'lacking', blobs: lacking }),
  });
  stock.start(log);
  const asking = askForSecrets(
    parts,
    formers.find((peer) => peer !== host.peer) ?? null,
    ending.signal,
  ).catch((thrown: unknown) => {
    if (!ending.signal.aborted)
      logger.warn(`secrets of the founder before: ${asSuperfleetError(thrown).message}`);
  });
  return async () => {
    ending.abort(new Error('the founder is stopping'));
    await stock.stop();
    await asking;
  };
}

const replicasOf = ({ members }: MeshState): string[] =>
  [...members.byPeer.values()]
    .filter(({ standing, roles }) => standing === 'active' && roles.includes('replica'))
    .map(({ peer }) => peer);

async function askForSecrets(
  { log, host, secrets, driver, logger, state }: InheritParts,
  former: string | null,
  signal: AbortSignal,
): Promise<void> {
  const lacking = (): boolean => [...state().secrets].some((name) => !secrets.values.has(name));
  for (let wait = AGAIN_MS.first; former !== null && lacking(); wait = Math.min(AGAIN_MS.max, wait * 2)) {
    try {
      const within = AbortSignal.any([signal, AbortSignal.timeout(SECRETS_MS)]);
      const took = await takeSecrets(
        await host.dial(former, [], within),
        log.meshId,
        async (values) => {
          // What was set anew here meanwhile is newer.
          for (const [name, value] of values) {
            if (state().secrets.has(name) && !secrets.values.has(name)) await secrets.set(name, value);
          }
        },
        within,
      );
      if (took > 0) {
        driver.step({ type: 'secrets', values: secrets.values });
        logger.info({ secrets: took }, 'the secrets of the mesh are here');
      }
    } catch (thrown) {
      signal.throwIfAborted();
      logger.debug(
        { code: asSuperfleetError(thrown).code },
        'the founder before was not reached for the secrets',
      );
    }
    await delay(wait, undefined, { signal });
  }
}
