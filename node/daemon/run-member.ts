import { weighCheckpoint } from '../../ledger/proofs/witness.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { rosterBytesMax } from '../../protocol/roster.ts';
import { createMemberApp } from '../api/app.ts';
import { serveApi } from '../api/server.ts';
import type { MemberWishes, Running } from '../cli/options.ts';
import { fetchBlobs } from '../network/blob-client.ts';
import { serveBlobs } from '../network/blob-server.ts';
import { founderAddresses } from '../network/founder-address.ts';
import { Registry } from '../network/registry.ts';
import { serveTails } from '../network/tail-server.ts';
import { type KeptLog, keepLog } from '../replica/keep-log.ts';
import { FounderLink } from './founder-link.ts';
import { type Founder, successorKey } from './founder-role.ts';
import { environmentsFromFounder } from './from-founder.ts';
import { defaultName, type Machine } from './machine.ts';
import { memberPort } from './member-port.ts';
import { MemberService } from './member-service.ts';
import { Membership, smallFiles } from './membership.ts';
import type { Stage } from './stage.ts';
import { becomeFounder } from './succession.ts';

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
  let kept: KeptLog | null = null;
  const link = new FounderLink({
    host,
    membership,
    lifetime,
    logger,
    addresses,
    named: options.founder,
    barred: () => kept?.frozen.error ?? null,
    attach: (session) => service.driver.attach(session),
    onOnline: () => kept?.replica?.founderAnswers(),
  });
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
    inhibitSleep: options.inhibitSleep || config.inhibitSleep,
    rosterVersion: membership.rosterVersion,
    fetch,
    takeRoster: async (blob) => {
      await fetch([blob], AbortSignal.timeout(60_000));
      const tooLarge = () => new SuperfleetError('SF_NOT_PROVED', 'a roster of this size is none');
      const version = await membership.takeRoster(
        await collectBytes(blobs.read(blob), rosterBytesMax, tooLarge),
      );
      kept?.rosterTaken();
      await blobs.delete(blob);
      return version;
    },
    refused: (code, message) => link.refused(code, message),
    listens: () => host.addresses(),
    fromFounder: environmentsFromFounder({ host, founder: () => membership.founder, addresses }),
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
      if (membership.founder !== host.peer) link.again();
    },
    onMine: (copy) => {
      const { leadership, checkpoint } = copy;
      lifetime.become(async () => {
        await becomeFounder(machine, { leadership, checkpoint }, portOf(host.addresses()));
        logger.warn({ epoch: leadership.epoch }, 'this machine is the founder from now on');
        await founder.run(stage);
      });
    },
    onFreeze: () => link.again(),
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
  await service.openModels(registry);

  link.start();

  const api = await serveApi(
    createMemberApp(memberPort({ host, membership, service, kept, link, lifetime, addresses })),
    folder.paths.root,
  );
  lifetime.onStop(() => api.close());
  await link.ready();
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

export const nameOf = (machine: Machine, asked: string | null): string =>
  asked ?? machine.config.name ?? defaultName();
