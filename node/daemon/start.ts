import { accessSync, constants, mkdirSync } from 'node:fs';
import { weighCheckpoint } from '../../ledger/witness.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import { rosterBytesMax } from '../../protocol/roster.ts';
import { createMemberApp } from '../api/app.ts';
import type { MemberPort } from '../api/port.ts';
import { serveApi } from '../api/server.ts';
import type { FounderProgram, MemberWishes, Running, StartNodeOptions } from '../cli/options.ts';
import { forwardRequest } from '../network/api-client.ts';
import { fetchBlobs } from '../network/blob-client.ts';
import { serveBlobs } from '../network/blob-server.ts';
import { founderAddresses } from '../network/founder-address.ts';
import { type Link, type LinkState, startLink } from '../network/link.ts';
import { Registry } from '../network/registry.ts';
import { serveTails } from '../network/tail-server.ts';
import { strangeFounder } from '../network/whose.ts';
import { type KeptLog, keepLog } from '../replica/keep-log.ts';
import type { Estate } from '../replica/source.ts';
import { defaultName, type Machine, openMachine } from './machine.ts';
import { MemberService } from './member-service.ts';
import { Membership, smallFiles } from './membership.ts';
import { Lifetime } from './process.ts';
import { type Stage, stageOf } from './stage.ts';
import { becomeFounder, nextLogKey } from './succession.ts';

/** The founder has this long to answer a goodbye of a member that leaves. */
const LEAVE_MS = 15_000;
/** So long a start waits for the founder's first word, which may be that this is no member any more. */
const FIRST_WORD_MS = 2_000;
/** One that took the session says its word within this. */
const ANSWER_MS = 8_000;

/**
 * `mesh-node start`: works for the mesh this machine has joined. Where the mesh was handed over to this machine meanwhile,
 * it runs the founder.
 */
export async function startNode(options: StartNodeOptions, program: FounderProgram | null): Promise<Running> {
  const founder = await foresee(program, options.dir);
  const machine = await openMachine({ ...options, create: false, beside: founder.beside });
  return living(machine, async (lifetime) => {
    const stage = stageOf(machine, lifetime, options.port);
    if (machine.config.kind !== 'hub') return startMember(stage, options, founder);
    machine.logger.warn('the mesh was handed over to this machine: it runs the founder');
    return founder.run(stage);
  });
}

/** Runs the member of a folder that has joined a mesh. */
export async function startMember(
  stage: Stage,
  options: MemberWishes,
  founder: Founder,
  made: Membership | null = null,
): Promise<Running['ready']> {
  const { machine } = stage;
  const { paths } = machine.folder;
  const membership = made ?? (await Membership.load(machine.key.peer, smallFiles(paths)));
  if (membership !== null) return runMember(stage, membership, options, founder);
  throw new SuperfleetError('SF_CONFLICT', 'this machine has joined no mesh', {
    expected: 'a data folder that was made by `mesh-node join`',
    got: paths.root,
    hint: 'mesh-node join TOKEN, or mesh-node join to ask by a code',
  });
}

/** How a member's process becomes a founder's. */
export interface Founder {
  /** Folders outside the data folder that root gives to the account it drops to. */
  beside: string[];
  /** Folders outside the data folder that a founder needs. */
  needs: string[];
  run(stage: Stage): Promise<Running['ready']>;
  /** What a former founder's folder still has for the founder of now. */
  estate?(dir: string): Promise<Estate | null>;
}

/** Root loads the founder's program while it still can: where only root can read it nothing is loaded later. */
export async function foresee(program: FounderProgram | null, dir: string): Promise<Founder> {
  const early = program !== null && process.getuid?.() === 0 ? await program.load() : null;
  return {
    beside: process.getuid?.() === 0 ? madeOf(program?.beside(dir) ?? []) : [],
    needs: program?.beside(dir) ?? [],
    ...(program === null ? {} : { estate: (root) => program.estate(root) }),
    run: async (stage) => {
      const run = early ?? (await program?.load());
      if (run !== undefined) return run(stage);
      throw new SuperfleetError('SF_CONFLICT', 'the mesh was handed over to this machine', {
        expected: 'a program that runs the founder',
        hint: 'mesh-hub start',
      });
    },
  };
}

/** Those of the folders that are there or can be made: what a unit has made read-only is no reason not to start. */
export function madeOf(folders: readonly string[]): string[] {
  return folders.filter((folder) => {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      accessSync(folder, constants.W_OK | constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The key with which this machine would sign the log as its founder; null: it could not be one. */
async function successorKey(machine: Machine, { needs }: Founder): Promise<SigningKey | null> {
  if (madeOf(needs).length === needs.length) return nextLogKey(machine.folder.paths);
  machine.logger.warn(
    `this replica cannot be made the founder: ${needs.join(', ')} cannot be written; as a service, run mesh-node service install again`,
  );
  return null;
}

/** Starts what lives on this machine; where that fails half way, nothing of it stays open. */
export async function living(
  machine: Machine,
  start: (lifetime: Lifetime) => Promise<Running['ready']>,
): Promise<Running> {
  const lifetime = new Lifetime(machine.logger);
  lifetime.keep(() => machine.close());
  try {
    const ready = await start(lifetime);
    if (lifetime.failure !== null) throw lifetime.failure;
    return { ready, done: lifetime.run() };
  } catch (error) {
    await lifetime.abandon();
    throw error;
  }
}

/** Brings a member up; resolves when it answers on its socket. It becomes the founder when its copy of the log says so. */
export async function runMember(
  stage: Stage,
  membership: Membership,
  options: MemberWishes,
  founder: Founder,
): Promise<Running['ready']> {
  const { machine, lifetime } = stage;
  const { blobs, config, folder, logger } = machine;
  const { genesis, certificate } = membership;
  const isReplica = certificate.roles.includes('replica');
  // Where a founder listens, so that whoever opens that port for a replica has opened it for the founder it may become.
  const host = await stage.network(isReplica ? 'preferred' : 'any');
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
    // A replica's store is the mesh's: what others still need is not a settled result's to delete.
    ownsBlobs: !isReplica,
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
    epoch: membership.leadership.epoch,
    handedOver: (lines, addresses) => kept?.heardOf(lines, addresses),
    replicas: (places) => kept?.replicasAt(places),
  });
  kept = await keepLog({
    host,
    key: machine.key,
    registry,
    membership,
    blobs,
    addresses,
    isReplica,
    nextKey: isReplica ? await successorKey(machine, founder) : null,
    paths: folder.paths,
    logger,
    lifetime,
    checkpoint: () => service.checkpoint,
    online: () => service.online,
    ...(founder.estate === undefined ? {} : { estate: () => founder.estate!(folder.paths.root) }),
    onDiverged: () => {
      lifetime.become(() => startMember(stage, options, founder));
    },
    onHandover: () => {
      logger.warn({ founder: membership.founder }, 'the mesh has another founder');
      service.driver.epoch(membership.leadership.epoch);
      if (membership.founder !== host.peer) link?.again();
    },
    onMine: (copy) => {
      const { leadership, checkpoint } = copy;
      lifetime.become(async () => {
        await becomeFounder(machine, { leadership, checkpoint }, portOf(host.addresses()));
        logger.warn({ epoch: leadership.epoch }, 'this machine is the founder from now on');
        await founder.run(stage);
      });
    },
    onFreeze: () => link?.again(),
  });
  // What it acknowledged is more than what the founder's beats have told it.
  kept.replica?.onBegun((copy) => {
    service.driver.holds(copy.checkpoint.text);
    copy.subscribe(({ checkpoint }) => service.driver.holds(checkpoint.text));
  });
  // Attempts stop before the link does, so that the founder still hears of them.
  lifetime.onStop(() => service.stop());
  // The founder asks a member for its results and its live output, a replica for what the founder it lost has left there.
  const mayHave = (peer: string): boolean =>
    membership.isFounder(peer) || membership.replicas().includes(peer);
  await serveBlobs({ registry, store: blobs, allow: mayHave });
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

/** The TCP port that this machine listens on; null: none. */
function portOf(addresses: readonly string[]): number | null {
  const port = addresses
    .map((address) => /\/tcp\/(\d+)/.exec(address)?.[1])
    .find((found) => found !== undefined);
  return port === undefined ? null : Number(port);
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
