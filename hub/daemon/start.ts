import type { Entry } from '../../ledger/entry.ts';
import { IndexStore, openIndexDatabase } from '../../ledger/index-store.ts';
import { Log } from '../../ledger/log.ts';
import { applyEntry, initialState, knownEntry } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import type { MemberPort } from '../../node/api/port.ts';
import { serveApi } from '../../node/api/server.ts';
import type { Running } from '../../node/cli/options.ts';
import { defaultPort } from '../../node/config.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { loopbackSession } from '../../node/daemon/loopback.ts';
import { type Machine, openMachine } from '../../node/daemon/machine.ts';
import { systemClock } from '../../node/daemon/member.ts';
import { MemberService } from '../../node/daemon/member-service.ts';
import { Lifetime } from '../../node/daemon/process.ts';
import { openHost } from '../../node/daemon/start.ts';
import { serveBlobs } from '../../node/network/blob-server.ts';
import { acceptSessions } from '../../node/network/founder-sessions.ts';
import { serveJoins } from '../../node/network/join-server.ts';
import { type Access, Registry } from '../../node/network/registry.ts';
import type { SessionEnd } from '../../node/network/session.ts';
import { parseDuration } from '../../protocol/duration.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import type { FounderMessage, MemberMessage } from '../../protocol/session.ts';
import { createHubApp } from '../api/app.ts';
import type { StartHub, StartHubOptions } from '../cli/options.ts';
import { FounderCore } from '../core/founder.ts';
import { collectResult } from './collect.ts';
import { FounderDriver } from './founder.ts';
import { FounderPort } from './port.ts';
import { Notary } from './roster.ts';
import { SecretStore, secretsFile, secretsFolder } from './secrets.ts';
import { verifyLogFiles } from './verify-log.ts';

/** `mesh-hub start`: the founder and its own member, in one process. */
export const startHub: StartHub = async (options: StartHubOptions): Promise<Running> => {
  const { dir } = options;
  const machine = await openMachine({ ...options, create: false, beside: [secretsFolder(dir)] });
  try {
    return await runHub(machine, options);
  } catch (error) {
    await machine.close();
    throw error;
  }
};

async function runHub(machine: Machine, options: StartHubOptions): Promise<Running> {
  const { blobs, folder, logger, config } = machine;
  const { paths } = folder;
  const logKey = await readKey(paths.logKey);
  if (config.kind !== 'hub' || logKey === null) {
    throw new SuperfleetError('SF_CONFLICT', 'this data folder is not a founder’s', {
      expected: 'a data folder that was made by `mesh-hub init`',
      got: config.kind === 'node' ? 'a member’s data folder' : paths.root,
      hint: 'mesh-hub init',
    });
  }

  // The log is the truth: everything this process knows of the mesh is replayed from it.
  const state = initialState();
  const storage = new FileStorage(paths.log);
  const log = await Log.open({
    storage,
    key: logKey,
    onEntry: (entry: Entry) => applyEntry(state, entry, knownEntry(entry)),
  });
  if (log.cut !== null) logger.warn(log.cut, 'the end of the log was torn by a crash and has been cut off');
  const genesisLine = await genesisLineOf(log);
  const index = await IndexStore.open(await openIndexDatabase(paths.index), log);
  const secrets = await SecretStore.open(secretsFile(paths.root));
  const times = {
    heartbeatMs: parseDuration(config.heartbeat),
    leaseMs: parseDuration(config.lease),
    graceMs: parseDuration(config.grace),
  };
  const core = new FounderCore({ mesh: log.meshId, state, config: times }, systemClock());

  const host = await openHost(machine, options.port, defaultPort);
  const access: Access = {
    isFounder: (peer) => peer === host.peer,
    isMember: (peer) => core.state.members.byPeer.get(peer)?.standing === 'active',
    isRevoked: (peer) => core.state.members.byPeer.get(peer)?.standing === 'revoked',
  };
  const registry = new Registry(host, access, {}, (error, peer, protocol) =>
    logger.debug({ code: error.code, peer, protocol }, error.message),
  );
  const notary = new Notary(genesisLine, () => core.state, logKey);
  const ending = new AbortController();

  const driver = new FounderDriver({
    core,
    log,
    collect: (effect) => collectResult(effect, host.peer, host, blobs, ending.signal),
    roster: () => notary.publish(blobs),
    drop: (peers) => {
      for (const peer of peers) registry.dropPeer(peer);
    },
    failed: (error) => lifetime.end(error),
  });
  driver.step({ type: 'secrets', values: secrets.values });

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
    rosterVersion: core.state.mesh.size,
    fetch: async (wanted) => {
      for (const blob of wanted) {
        if (await blobs.has(blob)) continue;
        throw new SuperfleetError('SF_NOT_FOUND', `the founder does not hold the blob ${blob}`);
      }
    },
    takeRoster: async () => core.state.mesh.size,
    refused: (code, message) => logger.error({ code }, message),
  });

  const sessions = await acceptSessions({
    registry,
    mesh: log.meshId,
    onSession: (session, hello) => driver.attach(session, hello),
  });
  await serveBlobs({ registry, store: blobs, allow: (peer, blob) => core.mayFetch(peer, blob) });
  const join = await serveJoins({
    registry,
    mesh: log.meshId,
    name: log.genesis.name,
    admitByInvite: async ({ peer, name, owner }, secretHash) => {
      // The person who made the invite said yes; the founder carries it out.
      const via = { kind: 'invite' as const, secretHash };
      await driver.request({ op: 'member.admit', peer, name, owner, via }, { kind: 'founder' });
      return notary.admitted(peer);
    },
    readmit: async (peer) => (access.isMember(peer) ? notary.admitted(peer) : null),
    pendingAdded: ({ name, code }) =>
      logger.info({ code }, `${name} wants to join: compare the codes, then mesh-hub node approve ${code}`),
    pendingGone: ({ name, code }, why) => logger.info({ code, why }, `${name} waits no longer`),
  });

  const ownMember: Omit<MemberPort, 'forward'> = {
    status: async () => member.status(),
    pause: (ms) => member.pause(ms),
    resume: () => member.resume(),
    leave: () =>
      Promise.reject(
        new SuperfleetError('SF_CONFLICT', 'the founder cannot leave its own mesh', {
          hint: 'mesh-hub stop',
        }),
      ),
    stop: () => lifetime.end(),
  };
  const port = new FounderPort({
    driver,
    state: () => core.state,
    log,
    verifyLog: (progress, signal) => verifyLogFiles(storage, log.size, progress, signal),
    index,
    blobs,
    host,
    join,
    notary,
    genesisLine,
    secrets,
    own: member.tails,
    stop: () => lifetime.end(),
  });
  connectOwnMember(driver, member, host.peer);
  const api = await serveApi(createHubApp({ port, member: ownMember }), paths.root);

  const lifetime = new Lifetime(logger, async () => {
    await api.close();
    // Attempts stop before the sessions do, so that the log still hears of them.
    await member.stop();
    await sessions.stop();
    ending.abort(new SuperfleetError('SF_UNREACHABLE', 'the founder is stopping'));
    driver.stop();
    await registry.stop();
    await host.stop();
    await index.close();
    await log.close();
    await machine.close();
  });
  return {
    ready: {
      event: 'ready',
      mesh: log.meshId,
      id: host.peer,
      name: member.status().name,
      addresses: host.addresses(),
    },
    done: lifetime.done,
  };
}

/** The line of entry 0 as it stands in the log: what certificates and receipt files are proved by. */
async function genesisLineOf(log: Log): Promise<string> {
  const [entry] = await log.read(0, 1);
  const line = JSON.stringify(entry);
  if (meshIdOfLine(line) === log.meshId) return line;
  throw new SuperfleetError('SF_INTERNAL', 'the genesis entry was read differently from how it was written');
}

/** Session numbers of the in-process session; those of the wire count up from one. */
const OWN_SESSION = Number.MAX_SAFE_INTEGER;

/** The founder's own member speaks the session interface to the founder's driver, in this process. */
function connectOwnMember(driver: FounderDriver, member: MemberService, peer: string): void {
  const [founderSide, memberSide] = loopbackSession<MemberMessage, FounderMessage>(OWN_SESSION, peer);
  let attached: ReturnType<FounderDriver['attach']> | null = null;
  founderSide.run({
    onMessage: (message) => {
      if (attached !== null) return attached.onMessage(message);
      if (message.type === 'hello') attached = driver.attach(founderSide, message);
    },
    onClosed: (end: SessionEnd) => attached?.onClosed(end),
  });
  memberSide.run(member.driver.attach(memberSide));
}
