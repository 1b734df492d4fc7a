import { rm } from 'node:fs/promises';
import type { EventBody } from '../../ledger/events.ts';
import type { Log } from '../../ledger/log.ts';
import { LogProofs } from '../../ledger/proofs.ts';
import { FileSnapshotStore } from '../../ledger/snapshot-store-file.ts';
import { FileTileStore } from '../../ledger/tile-store-file.ts';
import {
  type Equivocation,
  equivocationError,
  provesEquivocation,
  testimonyOf,
} from '../../ledger/witness.ts';
import type { OwnerPort } from '../../node/api/port.ts';
import { noWishes, type Running } from '../../node/cli/options.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { InstanceMark, markFolder, type Standing } from '../../node/daemon/instance-mark.ts';
import { openMachine } from '../../node/daemon/machine.ts';
import { MemberService } from '../../node/daemon/member-service.ts';
import { Membership, smallFiles } from '../../node/daemon/membership.ts';
import type { Lifetime } from '../../node/daemon/process.ts';
import { keepProof, keptProof, proofFile } from '../../node/daemon/proof-file.ts';
import { type Stage, stageOf } from '../../node/daemon/stage.ts';
import { type Founder, living, startMember, workLine } from '../../node/daemon/start.ts';
import { becomeMember } from '../../node/daemon/succession.ts';
import type { FolderPaths } from '../../node/folder.ts';
import { serveRequests } from '../../node/network/api-server.ts';
import { serveBlobs } from '../../node/network/blob-server.ts';
import { acceptSessions } from '../../node/network/founder-sessions.ts';
import { serveJoins } from '../../node/network/join-server.ts';
import { type Access, Registry } from '../../node/network/registry.ts';
import { LogSource } from '../../node/replica/source.ts';
import { parseDuration } from '../../protocol/duration.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { leadershipOf } from '../../protocol/handover.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import { parseSize } from '../../protocol/size.ts';
import { createHubApp } from '../api/app.ts';
import { approveBody } from '../api/bodies.ts';
import type { Decide, StartHub, StartHubOptions } from '../cli/options.ts';
import { FounderCore } from '../core/founder.ts';
import { collectResult } from './collect.ts';
import { estateOf } from './estate.ts';
import { FounderDriver, recallFrom } from './founder.ts';
import { FounderGuard } from './guard.ts';
import { Handover } from './handover.ts';
import { createHeldApp, FounderSocket, heldError } from './held.ts';
import { inherit } from './inherit.ts';
import { CONFIG_HINT } from './init.ts';
import { openLedger } from './ledger.ts';
import { endNewEpoch, openNewEpoch } from './new-epoch.ts';
import { connectOwnMember } from './own-member.ts';
import { FounderPort } from './port.ts';
import { readRecoveryKey } from './recovery-key.ts';
import { Relieved, RelievedError } from './relieved.ts';
import { Notary } from './roster.ts';
import { Scrubber } from './scrub.ts';
import { SecretStore, secretsFile, secretsFolder } from './secrets.ts';
import { Snapshots } from './snapshots.ts';
import { admissionOf, stepDown } from './step-down.ts';
import { verifyLogFiles } from './verify-log.ts';

/** `mesh-hub start`: the founder and its own member, in one process. */
export const startHub: StartHub = async (options: StartHubOptions): Promise<Running> => {
  const { dir, doorkeeper, acceptLoss } = options;
  // While root may still read it.
  const recovery = acceptLoss === null ? null : readRecoveryKey(acceptLoss.recoveryKeyFile);
  const beside = [secretsFolder(dir), markFolder(dir)];
  const aroundLog = (write: () => void): void => (doorkeeper === null ? write() : doorkeeper.around(write));
  const machine = await openMachine({ ...options, create: false, beside, aroundLog });
  return living(machine, async (lifetime) => {
    const stage = stageOf(machine, lifetime, options.port);
    if (machine.config.kind !== 'node') return runFounder(stage, { ...options, recovery });
    machine.logger.warn('another machine is the founder of this mesh: this one works as a member');
    return startMember(stage, noWishes, successor);
  });
};

/** The founder on a machine that was a member's until now. */
export const runSuccessor = (stage: Stage): Promise<Running['ready']> =>
  runFounder(stage, {
    doorkeeper: null,
    recovery: null,
    onWaiting: ({ code, message, hint }) => stage.machine.logger.warn({ code, hint }, message),
  });

/** What a member that this process becomes may be made again. */
const successor: Founder = { beside: [], needs: [], run: runSuccessor, estate: estateOf };

type FounderWishes = Pick<StartHubOptions, 'doorkeeper' | 'onWaiting'> & {
  /** Given where the operator gives up what nobody holds. */
  recovery: SigningKey | null;
};

/** Runs the founder; where its own log says that the mesh is another one's, a member. */
async function runFounder(stage: Stage, options: FounderWishes): Promise<Running['ready']> {
  const { machine, lifetime } = stage;
  try {
    return await runHub(stage, options);
  } catch (thrown) {
    const { code } = asSuperfleetError(thrown);
    const { recovery } = options;
    if (recovery !== null && (code === 'SF_BEHIND' || code === 'SF_EQUIVOCATION')) {
      await lifetime.clear();
      const epoch = await openNewEpoch(machine, recovery);
      machine.logger.warn({ epoch }, `what was lost is given up: ${(thrown as Error).message}`);
      return runFounder(stage, { ...options, recovery: null });
    }
    if (code !== 'SF_FENCED') throw thrown;
    machine.logger.warn((thrown as Error).message);
    await lifetime.clear();
    const told = thrown instanceof RelievedError ? thrown.told : null;
    if (told === null && (await endNewEpoch(machine))) return runFounder(stage, options);
    return startMember(stage, noWishes, successor, await stepDown(machine, told));
  }
}

async function runHub(stage: Stage, options: FounderWishes): Promise<Running['ready']> {
  const { machine, lifetime } = stage;
  const { blobs, folder, logger, config } = machine;
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
  const { storage, log, index, archive, state, genesisLine } = ledger;
  if (log.leadership.founder !== machine.key.peer) throw strangeIdentity(paths, log, machine.key.peer);
  const proofs = new LogProofs(log, {
    store: new FileTileStore(paths.tiles),
    onWarning: (message, error) => logger.warn(`${message}: ${asSuperfleetError(error).message}`),
  });
  lifetime.onStop(() => proofs.close());
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
  /** Where the proof lies; null: this disk does not take it, and the founder ends all the same. */
  const kept = (equivocation: Equivocation): Promise<string | null> =>
    keepProof(paths.root, equivocation).catch((thrown: unknown) => {
      logger.error({ code: asSuperfleetError(thrown).code }, 'the proof of two histories could not be kept');
      return null;
    });
  const frozen = await keptProof(paths.root);
  if (frozen !== null) throw equivocationError(frozen, proofFile(paths.root));
  const guard = new FounderGuard({
    log,
    state,
    self: host.peer,
    marked: await mark.read(standingOf(log)),
    host,
    logger,
    keepProof: kept,
    giveUp: options.recovery !== null,
    signal: ending.signal,
    onWaits: () => {
      void socket.serve(held);
      options.onWaiting(heldError(guard));
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

  const secrets = await SecretStore.open(secretsFile(paths.root));
  await secrets.retain(state.secrets);
  const times = {
    heartbeatMs: parseDuration(config.heartbeat),
    leaseMs: parseDuration(config.lease),
    graceMs: parseDuration(config.grace),
  };
  const core = new FounderCore({ mesh: log.meshId, state, config: times }, systemClock());
  const notary = new Notary(genesisLine, () => core.state, logKey);

  const driver = new FounderDriver({
    core,
    log,
    replicas: state.mesh.durability ?? 0,
    collect: (effect) => collectResult(effect, host.peer, host, blobs, ending.signal),
    recall: (wanted) => recallFrom(archive, wanted),
    roster: () => notary.publish(blobs),
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
  /** A member that saw another history, or more of this one, ends the founder: nothing more is signed (promises 5 and 7). */
  const heed = async (checkpoint: string | null, peer: string): Promise<void> => {
    if (checkpoint === null) return;
    const testimony = await testimonyOf(log, checkpoint).catch((thrown: unknown) => {
      const { code, message } = asSuperfleetError(thrown);
      logger.error({ code, peer }, `what a member saw of the log cannot be held against it: ${message}`);
      return null;
    });
    if (testimony === null) return;
    if (testimony.kind === 'fork') {
      lifetime.end(equivocationError(testimony.equivocation, await kept(testimony.equivocation)));
    } else if (testimony.kind === 'ahead') lifetime.end(behindError(log, testimony.checkpoint.size, peer));
  };

  const me = core.state.members.byPeer.get(host.peer);
  const member = await MemberService.start({
    machine,
    mesh: log.meshId,
    me: { id: host.peer, name: me?.name ?? config.name ?? 'founder' },
    roles: me?.roles ?? [],
    owner: me?.owner ?? null,
    // Its store is the mesh's: what others still need is not a settled result's to delete.
    ownsBlobs: false,
    slots: config.slots,
    labels: config.labels,
    policy: { owner: config.policy, invite: me?.policy ?? null },
    rosterVersion: core.state.mesh.size,
    // Where this machine sleeps the founder sleeps with it, and no lease of its own member runs out.
    clock: systemClock,
    fetch: async (wanted) => {
      for (const blob of wanted) {
        if (await blobs.has(blob)) continue;
        throw new SuperfleetError('SF_NOT_FOUND', `the founder does not hold the blob ${blob}`);
      }
    },
    takeRoster: async () => core.state.mesh.size,
    refused: (code, message) => logger.error({ code }, message),
  });
  // Sessions say goodbye while the driver still hears them.
  lifetime.onStop(() => sessions.stop());
  // Attempts stop before the sessions do, so that the log still hears of them.
  lifetime.onStop(() => member.stop());

  guard.open((session, hello) => {
    void heed(hello.checkpoint, session.peer);
    return driver.attach(session, hello);
  });
  await serveBlobs({ registry, store: blobs, allow: (peer, blob) => core.mayFetch(peer, blob) });
  const source = await LogSource.serve({
    registry,
    mesh: log.meshId,
    log: () => log,
    snapshots: new FileSnapshotStore(paths.snapshots),
    head: () => driver.checkpoint,
    seen: () => ({ checkpoint: driver.checkpoint, handovers: core.state.mesh.handovers }),
    onConflict: (checkpoints) => {
      const leadership = leadershipOf(genesisLine, core.state.mesh.handovers);
      if (!provesEquivocation(leadership, checkpoints, leadership.epoch)) return;
      const equivocation = { mesh: log.meshId, checkpoints };
      void kept(equivocation).then((path) => lifetime.end(equivocationError(equivocation, path)));
    },
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

  const ownMember: OwnerPort = {
    status: async () => ({ ...member.status(), replica: null }),
    pause: (ms) => member.pause(ms),
    resume: () => member.resume(),
    leave: () =>
      Promise.reject(
        new SuperfleetError('SF_CONFLICT', 'the founder cannot leave its own mesh', {
          hint: 'mesh-hub stop',
        }),
      ),
    models: () => member.models.list(),
    addModels: (url) => member.models.add(url),
    removeModels: (url) => member.models.remove(url),
    stop: () => lifetime.end(),
  };
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
          await becomeMember(machine, { ...admission, policy: me?.policy ?? null }, roster);
          logger.warn({ founder: log.leadership.founder }, 'this machine is a member from now on');
          await startMember(stage, noWishes, successor);
        });
      },
    }),
    stop: () => lifetime.end(),
  });
  const following = (): string[] => source.followers.map(({ peer }) => peer);
  relieved.watch(following, (error) => {
    lifetime.become(async () => {
      logger.warn({ code: error.code }, error.message);
      await startMember(stage, noWishes, successor, await stepDown(machine, error.told));
    });
  });
  lifetime.onStop(inherit({ log, host, blobs, secrets, driver, logger, state: () => core.state }));
  // An app of its own, so that members that follow many tasks do not keep the person at the founder from one.
  const forMembers = createHubApp({ port });
  await serveRequests(registry, async (request, peer) =>
    forMembers.fetch(request, { by: { kind: 'peer', peer } }),
  );
  lifetime.onStop(connectOwnMember(driver, member.driver, host.peer));
  await socket.serve(createHubApp({ port, member: ownMember }));
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

const standingOf = ({ meshId, checkpoint: { size, root } }: Log): Standing => ({ mesh: meshId, size, root });

/** The mark of an orderly stop; whoever failed leaves none, so that the next start asks. */
async function stopped(mark: InstanceMark, log: Log, lifetime: Lifetime): Promise<void> {
  if (lifetime.failure === null && log.failure === null) await mark.stopped(standingOf(log)).catch(() => {});
}

const behindError = (log: Log, size: number, peer: string): SuperfleetError =>
  new SuperfleetError('SF_BEHIND', `${peer} has seen ${size} entries, and this log holds ${log.size}`, {
    expected: 'a log that holds whatever was acknowledged',
    got: 'an older state of it',
    hint: 'start the founder again: it then takes what it lacks from a replica; see docs/recovery.md',
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
