import { rm } from 'node:fs/promises';
import type { EventBody } from '../../ledger/lines/events.ts';
import { LogProofs } from '../../ledger/proofs/proofs.ts';
import { FileTileStore } from '../../ledger/proofs/tile-store-file.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { MemoryBlobStore } from '../../node/blobs/memory.ts';
import type { Running } from '../../node/cli/options.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import { Membership, smallFiles } from '../../node/daemon/membership.ts';
import { workLine } from '../../node/daemon/run-member.ts';
import type { Stage } from '../../node/daemon/stage.ts';
import { becomeMember } from '../../node/daemon/succession.ts';
import { serveRequests } from '../../node/network/api-server.ts';
import { serveBlobs } from '../../node/network/blob-server.ts';
import { serveJoins } from '../../node/network/join-server.ts';
import { LogSource } from '../../node/replica/source.ts';
import { parseDuration } from '../../protocol/duration.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import { parseSize } from '../../protocol/size.ts';
import { createHubApp } from '../api/app.ts';
import { approveBody } from '../api/bodies.ts';
import { addEnvironmentRoute } from '../api/environments.ts';
import type { Decide, StartHubOptions } from '../cli/options.ts';
import { FounderCore } from '../core/founder.ts';
import { chosenPlugins } from '../plugins/plugins.ts';
import { collectResult } from './collect.ts';
import { FounderDriver, recallFrom } from './founder.ts';
import { GivenEnvironments } from './given-environments.ts';
import { Handover } from './handover.ts';
import { HistoryWatch } from './history-watch.ts';
import { inherit } from './inherit.ts';
import { connectOwnMember, ownerOf, startOwnMember } from './own-member.ts';
import { FounderPort } from './port.ts';
import { Notary } from './roster.ts';
import { Scrubber } from './scrub.ts';
import { SecretStore, secretsFile } from './secrets.ts';
import { Snapshots } from './snapshots.ts';
import { admissionOf, stepDown } from './step-down.ts';
import { openSureLog } from './sure-log.ts';
import { verifyLogFiles } from './verify-log.ts';
/** What a person asked of a founder that starts. */
export type FounderWishes = Pick<StartHubOptions, 'doorkeeper' | 'onWaiting'> & {
  /** Given where the operator gives up what nobody holds. */
  recovery: SigningKey | null;
};

/**
 * Brings the founder up on a machine: its log, its core, its own member, and everything that others reach. Resolves when it
 * answers on its socket. `toMember`: starts this process anew as a member, where the mesh is another one's from then on.
 */
export async function runHub(
  stage: Stage,
  options: FounderWishes,
  toMember: (membership?: Membership) => Promise<unknown>,
): Promise<Running['ready']> {
  const { machine, lifetime } = stage;
  const { blobs, folder, logger, config } = machine;
  const { paths } = folder;
  const sure = await openSureLog(stage, { giveUp: options.recovery !== null, onWaiting: options.onWaiting });
  const { logKey, host, registry, access, sessions, guard, relieved, socket, ending } = sure;
  const { storage, log, index, archive, state, genesisLine } = sure.ledger;
  const proofs = new LogProofs(log, {
    store: new FileTileStore(paths.tiles),
    onWarning: (message, error) => logger.warn(`${message}: ${asSuperfleetError(error).message}`),
  });
  lifetime.onStop(() => proofs.close());
  const secrets = await SecretStore.open(secretsFile(paths.root));
  await secrets.retain(state.secrets);
  const times = {
    heartbeatMs: parseDuration(config.heartbeat),
    leaseMs: parseDuration(config.lease),
    graceMs: parseDuration(config.grace),
  };
  const plugins = chosenPlugins(config.plugins);
  const core = new FounderCore(
    { mesh: log.meshId, state, config: times, plugins: plugins.on },
    systemClock(),
  );
  const notary = new Notary(genesisLine, () => core.state, logKey);
  // Every member fetches each, and a founder that starts signs another: it need not be on disk.
  const rosters = new MemoryBlobStore();

  const driver = new FounderDriver({
    core,
    log,
    replicas: state.mesh.durability ?? 0,
    collect: (effect) => collectResult(effect, host.peer, host, blobs, ending.signal),
    recall: (wanted) => recallFrom(archive, wanted),
    roster: () => notary.publish(rosters),
    members: () => core.state.members.byName.size,
    drop: (peers) => {
      for (const peer of peers) registry.dropPeer(peer);
    },
    failed: (error) => lifetime.end(error),
  });
  lifetime.onStop(() => driver.stop());
  lifetime.onStop(() => ending.abort(new SuperfleetError('SF_UNREACHABLE', 'the founder is stopping')));
  driver.step({ type: 'secrets', values: secrets.values });
  const made = (snapshot: EventBody<'log.snapshot'>): void => driver.step({ type: 'snapshotted', snapshot });
  const snapshots = new Snapshots({ log, paths, logger, made, compress: config.compressSegments });
  lifetime.onStop(() => snapshots.stop());
  const history = new HistoryWatch(log, paths.root, { lifetime, logger });
  const member = await startOwnMember(machine, {
    mesh: log.meshId,
    self: host.peer,
    state,
    listens: () => host.addresses(),
  });
  // Sessions say goodbye while the driver still hears them.
  lifetime.onStop(() => sessions.stop());
  // Attempts stop before the sessions do, so that the log still hears of them.
  lifetime.onStop(() => member.stop());

  guard.open((session, hello) => {
    void history.heed(hello.checkpoint, session.peer);
    return driver.attach(session, hello);
  });
  const given = new GivenEnvironments({
    environments: member.environments,
    leased: (peer, task) => core.environmentLease(peer, task),
    logger,
  });
  lifetime.onStop(() => given.close());
  const holding = async (blob: string) =>
    given.holding(blob) ?? ((await rosters.has(blob)) ? rosters : blobs);
  await serveBlobs({
    registry,
    store: {
      manifest: async (blob) => (await holding(blob)).manifest(blob),
      chunk: async (blob, index) => (await holding(blob)).chunk(blob, index),
    },
    allow: (peer, blob) => core.mayFetch(peer, blob) || given.mayFetch(peer, blob),
  });
  await member.openModels(registry);
  const source = await LogSource.serve({
    registry,
    mesh: log.meshId,
    log: () => log,
    snapshots: new FileSnapshotStore(paths.snapshots),
    head: () => driver.checkpoint,
    seen: () => ({ checkpoint: driver.checkpoint, handovers: core.state.mesh.handovers }),
    onConflict: (checkpoints) => void history.shown(checkpoints),
    mayFollow: (peer) => {
      const member = core.state.members.byPeer.get(peer);
      return member?.standing === 'active' && member.roles.includes('replica');
    },
    onFollowers: (followers) => {
      const held = new Map(followers.map(({ peer, size }) => [peer, size]));
      const places = followers.map(({ peer, addresses }) => ({ peer, addresses: [...addresses] }));
      const from = new Map(followers.map((follower) => [follower.peer, follower.from]));
      driver.replicas(held, relieved.keep(places), from);
    },
  });
  lifetime.onStop(() => source.stop());
  // As the person would by `mesh-hub node approve`, over the same port.
  const deciding = (code: string, user: string): Decide => {
    const by = { kind: 'local', user, claimed: true } as const;
    return {
      approve: () => port.approve({ code, ...approveBody.parse({}) }, by),
      reject: () => port.reject(code, by),
    };
  };
  const join = await serveJoins({
    registry,
    mesh: log.meshId,
    name: log.genesis.name,
    admitByInvite: async ({ peer, name, owner, exact }, secretHash) => {
      // The person who made the invite said yes; the founder carries it out.
      const via = { kind: 'invite' as const, secretHash };
      await driver.request({ op: 'member.admit', peer, name, exact, owner, via }, { kind: 'founder' });
      return notary.admitted(peer);
    },
    readmit: async (peer) => (access.isMember(peer) ? notary.admitted(peer) : null),
    pendingAdded: ({ name, code }) => {
      if (options.doorkeeper?.asks({ name, code }, deciding(code, options.doorkeeper.user)) === true) return;
      logger.info({ code }, `${name} wants to join: compare the codes, then mesh-hub node approve ${code}`);
    },
    pendingGone: ({ name, code }, why) => {
      if (options.doorkeeper?.gone(code, why) !== true) logger.info({ code, why }, `${name} waits no longer`);
    },
  });

  const bytesPerSecond = parseSize(config.scrub);
  const scrubber = new Scrubber({ storage, log, file: paths.scrubbed, bytesPerSecond, logger });
  lifetime.onStop(() => scrubber.stop());
  lifetime.onStop(log.onFailure((error) => lifetime.end(error)));
  const port = new FounderPort({
    driver,
    state: () => core.state,
    log,
    verifyLog: (progress, signal) => verifyLogFiles(storage, log, progress, signal),
    scrubLog: (progress, signal) => scrubber.now(progress, signal),
    index,
    archive,
    proofs,
    cosigned: (text) => source.cosigned(text),
    blobs,
    host,
    join,
    notary,
    genesisLine,
    secrets,
    own: member.tails,
    handover: new Handover({
      driver,
      log,
      source,
      host,
      state: () => core.state,
      failed: (error) => lifetime.end(error),
      prepare: async (addresses) => {
        const admission = admissionOf(log.leadership, genesisLine, notary.certificate(host.peer), addresses);
        await Membership.admit(admission, host.peer, smallFiles(paths));
      },
      forget: () => rm(paths.membership, { force: true }),
      becomeMember: (addresses) => {
        const roster = notary.roster().bytes;
        const admission = admissionOf(log.leadership, genesisLine, notary.certificate(host.peer), addresses);
        lifetime.become(async () => {
          await becomeMember(
            machine,
            { ...admission, policy: state.members.byPeer.get(host.peer)?.policy ?? null },
            roster,
          );
          logger.warn({ founder: log.leadership.founder }, 'this machine is a member from now on');
          await toMember();
        });
      },
    }),
    stop: () => lifetime.end(),
  });
  const following = (): string[] => source.followers.map(({ peer }) => peer);
  relieved.watch(following, (error) => {
    lifetime.become(async () => {
      logger.warn({ code: error.code }, error.message);
      await toMember(await stepDown(machine, error.told));
    });
  });
  lifetime.onStop(inherit({ log, host, blobs, secrets, driver, logger, state: () => core.state }));
  // An app of its own, so that members that follow many tasks do not keep the person at the founder from one.
  const forMembers = createHubApp({ port, plugins });
  addEnvironmentRoute(forMembers, given);
  await serveRequests(registry, async (request, peer) =>
    forMembers.fetch(request, { by: { kind: 'peer', peer } }),
  );
  lifetime.onStop(connectOwnMember(driver, member.driver, host.peer));
  await socket.serve(createHubApp({ port, plugins, member: ownerOf(member, () => lifetime.end()) }));
  lifetime.onStop(() => socket.close());
  lifetime.onStop(() => options.doorkeeper?.close());
  scrubber.start();
  return {
    event: 'ready',
    mesh: log.meshId,
    id: host.peer,
    name: member.status().name,
    addresses: host.addresses(),
    online: true,
    ...workLine(member),
  };
}
