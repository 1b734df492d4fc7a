import { rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { weighCheckpoint } from '../../ledger/witness.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { rosterBytesMax } from '../../protocol/roster.ts';
import { createMemberApp } from '../api/app.ts';
import type { MemberPort } from '../api/port.ts';
import { serveApi } from '../api/server.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import type { Running, StartNodeOptions } from '../cli/options.ts';
import type { FolderPaths } from '../folder.ts';
import { forwardRequest } from '../network/api-client.ts';
import { fetchBlobs } from '../network/blob-client.ts';
import { serveBlobs } from '../network/blob-server.ts';
import { founderAddresses } from '../network/founder-address.ts';
import { createHost, type Host } from '../network/host.ts';
import { type Link, type LinkState, startLink } from '../network/link.ts';
import { Registry } from '../network/registry.ts';
import { serveTails } from '../network/tail-server.ts';
import { strangeFounder } from '../network/whose.ts';
import { type KeptLog, keepLog } from '../replica/keep-log.ts';
import { libp2pKey } from './identity.ts';
import { defaultName, type Machine, openMachine } from './machine.ts';
import { MemberService } from './member-service.ts';
import { Membership, type SmallFiles } from './membership.ts';
import { Lifetime } from './process.ts';

/** The founder has this long to answer a goodbye of a member that leaves. */
const LEAVE_MS = 15_000;
/** So long a start waits for the founder's first word, which may be that this is no member any more. */
const FIRST_WORD_MS = 2_000;
/** One that took the session says its word within this. */
const ANSWER_MS = 8_000;

/** `mesh-node start`: works for the mesh this machine has joined. */
export async function startNode(options: StartNodeOptions): Promise<Running> {
  const machine = await openMachine({ ...options, create: false });
  return living(machine, async (lifetime) => {
    const host = await openHost(machine, options.port);
    lifetime.onStop(() => host.stop());
    const membership = await Membership.load(host.peer, smallFiles(machine.folder.paths));
    if (membership !== null) return runMember(machine, host, membership, options, lifetime);
    throw new SuperfleetError('SF_CONFLICT', 'this machine has joined no mesh', {
      expected: 'a data folder that was made by `mesh-node join`',
      got: machine.folder.paths.root,
      hint: 'mesh-node join TOKEN, or mesh-node join to ask by a code',
    });
  });
}

/** Starts what lives on this machine; where that fails half way, nothing of it stays open. */
export async function living(
  machine: Machine,
  start: (lifetime: Lifetime) => Promise<Running['ready']>,
): Promise<Running> {
  const lifetime = new Lifetime(machine.logger);
  lifetime.onStop(() => machine.close());
  try {
    const ready = await start(lifetime);
    if (lifetime.failure !== null) throw lifetime.failure;
    return { ready, done: lifetime.run() };
  } catch (error) {
    await lifetime.abandon();
    throw error;
  }
}

export const smallFiles = ({ membership, roster }: FolderPaths): SmallFiles => ({
  membership,
  roster,
  write: (path, text) => writeFileAtomic(path, text),
  remove: (path) => rm(path, { force: true }),
});

/** This machine on the network, with the port asked for, configured, or any. */
export function openHost(machine: Machine, port: number | null, fallback = 0): Promise<Host> {
  const { config, key } = machine;
  const wanted = port ?? config.port ?? fallback;
  return createHost({
    privateKey: libp2pKey(key),
    listen: config.listen.map((address) => `/ip${isIP(address) === 6 ? 6 : 4}/${address}/tcp/${wanted}`),
    mdns: config.mdns,
  });
}

/** Brings a member up on a host that it then owns; resolves when it answers on its socket. */
export async function runMember(
  machine: Machine,
  host: Host,
  membership: Membership,
  options: StartNodeOptions,
  lifetime: Lifetime,
): Promise<Running['ready']> {
  const { blobs, config, folder, logger } = machine;
  const { genesis, certificate } = membership;
  const registry = new Registry(host, membership, {}, (error, peer, protocol) =>
    logger.debug({ code: error.code, peer, protocol }, error.message),
  );
  lifetime.onStop(() => registry.stop());
  const named = options.founder === null ? [] : await namedFounder(options.founder, machine);
  const addresses = (): string[] => [...named, ...membership.addresses];
  const fetch = async (wanted: string[], signal: AbortSignal): Promise<void> => {
    await fetchBlobs(host, membership.founder, wanted, blobs, signal, { addresses: addresses() });
  };
  let leaving = false;
  let kept: KeptLog | null = null;
  let link: Link | null = null;
  lifetime.onStop(() => link?.stop());
  const service = await MemberService.start({
    machine,
    mesh: genesis.mesh,
    me: { id: host.peer, name: config.name ?? certificate.name },
    roles: certificate.roles,
    owner: certificate.owner,
    ownsBlobs: true,
    slots: options.slots ?? config.slots,
    labels: { ...config.labels, ...options.labels },
    policy: { owner: options.policy ?? config.policy, invite: membership.policy },
    rosterVersion: membership.rosterVersion,
    fetch,
    takeRoster: async (blob) => {
      await fetch([blob], AbortSignal.timeout(60_000));
      const tooLarge = () => new SuperfleetError('SF_NOT_PROVED', 'a roster of this size is none');
      const version = await membership.takeRoster(
        await collectBytes(blobs.read(blob), rosterBytesMax, tooLarge),
      );
      await blobs.delete(blob);
      return version;
    },
    refused: (code, message) => {
      if (!leaving) lifetime.end(refusal(code, message));
    },
    lag: () => kept?.replica?.status.behind ?? null,
    weigh: (held, shown) => weighCheckpoint(membership.leadership, held, shown),
    conflict: (checkpoints) => {
      if (kept !== null) void kept.frozen.take(checkpoints, kept.neighbours);
    },
  });
  kept = await keepLog({
    host,
    key: machine.key,
    registry,
    membership,
    paths: folder.paths,
    logger,
    lifetime,
    checkpoint: () => service.checkpoint,
    onHandover: () => {
      logger.warn({ founder: membership.founder }, 'the mesh has another founder');
      link?.again();
    },
    onFreeze: () => link?.again(),
  });
  // Attempts stop before the link does, so that the founder still hears of them.
  lifetime.onStop(() => service.stop());
  // Only the founder asks a member for anything: its results and its live output.
  await serveBlobs({ registry, store: blobs, allow: (peer) => membership.isFounder(peer) });
  await serveTails(registry, service.tails);

  /** While this machine leaves: hears that the founder answers, or that this is no member any more. */
  let told: ((state: LinkState) => void) | null = null;
  let everOnline = false;
  /** Whose founder is at the address a person named was asked. */
  let asked = false;
  /** A session was opened: the founder is there. */
  let heard = false;
  const firstWord = Promise.withResolvers<void>();
  link = startLink({
    host,
    founder: () => membership.founder,
    barred: () => kept?.frozen.error ?? null,
    addresses,
    attach: (session) => {
      heard = true;
      return service.driver.attach(session);
    },
    onState: (state) => {
      if (state.state !== 'connecting') setImmediate(() => firstWord.resolve());
      if (state.state === 'online') {
        logger.info('the founder answers');
        const address = host.reachedAt(membership.founder);
        if (address !== null && !leaving) {
          membership.reachedAt(address).catch((cause: unknown) => {
            logger.warn({ cause: String(cause) }, 'the address of the founder could not be kept');
          });
        }
      }
      if (state.state === 'online') everOnline = true;
      // Before it was ever in: whoever starts the copy of a machine sees it at once. Later it waits for its turn.
      if (state.state === 'waiting' && state.code === 'SF_CONFLICT' && !everOnline) {
        lifetime.end(duplicate(state.message));
      }
      if (
        state.state === 'waiting' &&
        state.code === 'SF_UNREACHABLE' &&
        options.founder !== null &&
        !asked
      ) {
        asked = true;
        void strangeFounder(host, options.founder, genesis.mesh).then((strange) => {
          if (strange !== null)
            logger.warn({ expected: strange.expected, got: strange.got }, strange.message);
        });
      }
      if (state.state === 'waiting') logger.warn({ code: state.code }, `no founder: ${state.message}`);
      const gone = 'code' in state && (state.code === 'SF_REFUSED' || state.code === 'SF_REVOKED');
      if (state.state === 'online' || gone) told?.(state);
      if (state.state === 'refused' && !leaving) {
        lifetime.end(refusal(state.code, state.message));
      }
    },
  });

  const port: MemberPort = {
    status: async () => {
      const frozen = kept?.frozen.error ?? null;
      return {
        ...service.status(),
        replica: kept?.reader?.object ?? null,
        ...(frozen === null ? {} : { work: `takes nothing from the founder: ${frozen.message}` }),
      };
    },
    copy: () => kept?.reader?.port ?? null,
    pause: (ms) => service.pause(ms),
    resume: () => service.resume(),
    models: () => service.models.list(),
    addModels: (url) => service.models.add(url),
    removeModels: (url) => service.models.remove(url),
    leave: async () => {
      leaving = true;
      await service.driver.owner('pause');
      const heard = new Promise<boolean>((resolve) => {
        told = (state) => {
          // A connection that broke leaves open whether the founder heard it: the next one tells.
          if (state.state === 'online') service.driver.leave();
          else resolve(true);
        };
        setTimeout(() => resolve(false), LEAVE_MS).unref();
      });
      if (!service.online || !service.driver.leave() || !(await heard)) {
        leaving = false;
        throw new SuperfleetError(
          'SF_UNREACHABLE',
          'the founder could not be told that this machine leaves',
          {
            expected: 'a founder that answers',
            hint: 'stop this machine with `mesh-node stop`; the operator can shut it out with `mesh-hub node revoke`',
          },
        );
      }
      await membership.forget();
      lifetime.end();
    },
    stop: () => lifetime.end(),
    forward: async (request) => {
      if (!service.online) {
        throw new SuperfleetError('SF_UNREACHABLE', 'the founder does not answer this machine now', {
          expected: 'a session with the founder',
          hint: 'it is tried again and again; is the founder running, and on this network?',
        });
      }
      return forwardRequest(await host.dial(membership.founder, addresses(), request.signal), request);
    },
  };
  const api = await serveApi(createMemberApp(port), folder.paths.root);
  lifetime.onStop(() => api.close());
  // A founder that is there may first have to see whether another machine has this identity.
  let late = setTimeout(() => {
    if (!heard) firstWord.resolve();
    else late = setTimeout(() => firstWord.resolve(), ANSWER_MS);
  }, FIRST_WORD_MS);
  await firstWord.promise;
  clearTimeout(late);
  return {
    event: 'ready',
    mesh: genesis.mesh,
    id: host.peer,
    name: service.status().name,
    addresses: host.addresses(),
    online: service.online,
    ...workLine(service),
  };
}

/** Where a person says that the founder is. A name that nobody knows just now keeps no member from starting. */
async function namedFounder(text: string, { logger }: Machine): Promise<string[]> {
  try {
    return await founderAddresses(text);
  } catch (thrown) {
    const error = asSuperfleetError(thrown);
    if (error.code !== 'SF_UNREACHABLE') throw error;
    logger.warn({ code: error.code }, `${error.message}; the addresses known so far are tried`);
    return [];
  }
}

/** What of its status a machine says when it is ready. */
export const workLine = (service: MemberService): { work?: string } => {
  const { work } = service.status();
  return work === null ? {} : { work };
};

/** Why the founder wants no more of this machine, and the way out. */
const refusal = (code: string, message: string): SuperfleetError =>
  code === 'SF_VERSION'
    ? new SuperfleetError(code, message)
    : new SuperfleetError('SF_REVOKED', message, {
        expected: 'a member of the mesh',
        hint: 'another data folder is a new identity: mesh-node join TOKEN --dir PATH',
      });

const duplicate = (message: string): SuperfleetError =>
  new SuperfleetError('SF_REFUSED', message, {
    expected: 'one machine with this identity',
    got: 'a second one: was the disk or the data folder copied?',
    hint: 'give this one an identity of its own: mesh-node join TOKEN --dir PATH, with an empty folder',
  });

export const nameOf = (machine: Machine, asked: string | null): string =>
  asked ?? machine.config.name ?? defaultName();
