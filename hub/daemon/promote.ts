import { setTimeout as delay } from 'node:timers/promises';
import { fileBeginning } from '../../ledger/log/beginning-file.ts';
import { handoverBatch } from '../../ledger/log/handover.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import { signedBy } from '../../ledger/proofs/witness.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { markFolder } from '../../node/daemon/instance-mark.ts';
import { type Machine, openMachine } from '../../node/daemon/machine.ts';
import { Membership, smallFiles } from '../../node/daemon/membership.ts';
import { openHost } from '../../node/daemon/stage.ts';
import { becomeFounder, nextLogKey } from '../../node/daemon/succession.ts';
import type { Host } from '../../node/network/host.ts';
import { Neighbours } from '../../node/network/neighbours.ts';
import { askTip, followLog } from '../../node/replica/follow.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { type Leadership, leadershipOf } from '../../protocol/handover.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import type { Promote, Promoted, PromoteOptions } from '../cli/options.ts';
import { readRecoveryKey, requireRecoveryKey } from './recovery-key.ts';
import { secretsFolder } from './secrets.ts';

/** Members on this LAN announce themselves, and answer, within this. */
const LOOK_MS = 4_000;
const ANSWER_MS = 3_000;
const LOOK_AGAIN_MS = 200;
/** What another replica holds more is fetched within this. */
const FETCH_MS = 10 * 60_000;

/** What a member said of the log, with who it is. */
export interface Heard {
  peer: string;
  tip: LogTip;
}

/**
 * `mesh-hub promote`: makes this replica the founder by the recovery key, offline. Looks for the other members first: a
 * founder that answers is not pushed aside, and what another replica holds more is taken from it.
 */
export const promote: Promote = async (options: PromoteOptions): Promise<Promoted> => {
  const { dir, user, recoveryKeyFile } = options;
  // While root may still read it.
  const recovery = readRecoveryKey(recoveryKeyFile);
  const beside = [secretsFolder(dir), markFolder(dir)];
  const machine = await openMachine({
    dir,
    create: false,
    user,
    logLevel: 'error',
    logFormat: 'text',
    beside,
  }).catch((thrown: unknown) => {
    throw runningHint(thrown);
  });
  try {
    return await promoteMachine(machine, recovery, options);
  } finally {
    await machine.close();
  }
};

async function promoteMachine(
  machine: Machine,
  recovery: SigningKey,
  options: PromoteOptions,
): Promise<Promoted> {
  const { paths } = machine.folder;
  const self = machine.key.peer;
  const membership = await Membership.load(self, smallFiles(paths));
  if (membership === null || !membership.certificate.roles.includes('replica')) throw noReplica(machine);
  const { mesh } = membership.genesis;
  requireRecoveryKey(recovery, membership.genesis.recoveryKey, mesh);
  const first = (await fileBeginning(paths.log).base.list()).at(-1);
  if (first !== undefined) {
    throw new SuperfleetError('SF_REFUSED', `this replica still fetches entries before ${first}`, {
      expected: 'a copy of the log from its first entry on',
      hint: 'promote one that holds all of it, or start this one (mesh-node start) while another replica answers, until its status says so',
    });
  }
  const copy = await LogCopy.open({ storage: new FileStorage(paths.log), mesh });
  try {
    const before = copy.size;
    let heard: Heard[] = [];
    // Named already: one that was cut short.
    const named = copy.leadership.founder === self && copy.epoch >= membership.leadership.epoch;
    if (!named) {
      heard = await lookAround(machine, membership, copy, options);
      const next = await nextLogKey(paths);
      const to = { founder: self, logKey: next.publicKey, authority: 'recovery' } as const;
      await copy.take(handoverBatch(copy.standing, to, recovery, Date.now()).bytes);
    }
    const { leadership, checkpoint } = copy;
    const mine = leadership.handovers.at(-1)!.index;
    await becomeFounder(machine, { leadership, checkpoint }, null);
    const seen = Math.max(0, ...heard.map(({ tip }) => sizeOf(leadership, tip)));
    return {
      mesh,
      epoch: leadership.epoch,
      founder: { id: self, name: machine.config.name ?? membership.certificate.name },
      size: checkpoint.size,
      root: checkpoint.root,
      asked: heard.length,
      taken: Math.max(0, mine - before),
      lost: Math.max(0, seen - mine),
    };
  } finally {
    await copy.close();
  }
}

/** Asks whoever is there, and brings the copy up to the longest that is to be had. Throws where this machine must not lead. */
async function lookAround(
  machine: Machine,
  membership: Membership,
  copy: LogCopy,
  { force, onNote }: PromoteOptions,
): Promise<Heard[]> {
  const host = await openHost(machine, 0);
  const neighbours = new Neighbours(host, (peer) => membership.isMember(peer));
  try {
    for (const { peer, addresses } of membership.replicaPlaces) neighbours.tell(peer, addresses);
    neighbours.tell(membership.founder, membership.addresses);
    onNote(
      host.announcer === null
        ? 'asking the other members …'
        : `looking for the other members, ${LOOK_MS / 1000} s …`,
    );
    const weigh = (heard: readonly Heard[]): Heard[] =>
      judge(heard, copy, membership.founder, membership.genesisLine, force);
    const heard = await askAll(host, neighbours, membership.genesis.mesh, weigh);
    const longer = weigh(heard);
    for (const { peer, tip } of longer) {
      if (copy.size >= sizeOf(copy.leadership, tip)) continue;
      const size = copy.size;
      await fetchFrom(host, peer, neighbours.addresses(peer), copy, sizeOf(copy.leadership, tip));
      onNote(`${copy.size - size} entries came from ${peer}, which held more`);
    }
    return heard;
  } finally {
    neighbours.close();
    await host.stop();
  }
}

/** Each member that can be reached, once. What `weigh` throws of an answer ends it at once: nobody else's would change it. */
async function askAll(
  host: Host,
  neighbours: Neighbours,
  mesh: string,
  weigh: (heard: readonly Heard[]) => void,
): Promise<Heard[]> {
  const heard: Heard[] = [];
  const asked = new Map<string, Promise<void>>();
  const ask = async (peer: string): Promise<void> => {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const connection = await host.dial(peer, neighbours.addresses(peer), signal);
    heard.push({ peer, tip: await askTip(connection, mesh, signal) });
  };
  // Where nothing is announced, nobody is heard of who is not known.
  const lookMs = host.announcer === null ? 0 : LOOK_MS;
  const until = performance.now() + lookMs;
  do {
    for (const peer of neighbours.peers()) {
      if (peer !== host.peer && !asked.has(peer))
        asked.set(
          peer,
          ask(peer).catch(() => {}),
        );
    }
    await delay(Math.min(LOOK_AGAIN_MS, lookMs));
    weigh(heard);
  } while (performance.now() < until);
  await Promise.all(asked.values());
  return heard;
}

/**
 * Whether this machine may lead: replicas that hold more, longest first. Throws `SF_FENCED` where somebody proves a later
 * epoch, `SF_REFUSED` where the founder of now answers and nobody insists. Pure.
 */
export function judge(
  heard: readonly Heard[],
  copy: Pick<LogCopy, 'leadership' | 'size'>,
  founder: string,
  genesisLine: string,
  force: boolean,
): Heard[] {
  for (const { peer, tip } of heard) {
    const other = proved(genesisLine, tip);
    if (other !== null && other.epoch > copy.leadership.epoch) {
      throw new SuperfleetError('SF_FENCED', `the mesh has another founder already: ${other.founder}`, {
        expected: `nobody who knows of an epoch after ${copy.leadership.epoch}`,
        got: `${peer} knows of epoch ${other.epoch}`,
        hint: 'start this machine as a member, it follows that founder: mesh-node start',
      });
    }
  }
  if (!force && heard.some(({ peer }) => peer === founder)) {
    throw new SuperfleetError('SF_REFUSED', 'the founder of this mesh answers', {
      expected: 'a founder that is lost',
      got: founder,
      hint: 'on the founder: mesh-hub handover NODE; --force where it answers and must not lead any more',
    });
  }
  return heard
    .filter(({ tip }) => tip.holds && sizeOf(copy.leadership, tip) > copy.size)
    .sort((a, b) => sizeOf(copy.leadership, b.tip) - sizeOf(copy.leadership, a.tip));
}

function proved(genesisLine: string, { handovers }: LogTip): Leadership | null {
  try {
    return leadershipOf(genesisLine, handovers);
  } catch {
    return null;
  }
}

/** Entries that the checkpoint of an answer speaks of, where a key of the mesh signed it; else 0. */
const sizeOf = (leadership: Leadership, { checkpoint }: LogTip): number =>
  checkpoint === null ? 0 : (signedBy(leadership, checkpoint)?.checkpoint.size ?? 0);

/** Takes what a longer replica holds; throws nothing: what could not be had is told as lost. */
async function fetchFrom(
  host: Host,
  peer: string,
  addresses: readonly string[],
  copy: LogCopy,
  size: number,
): Promise<void> {
  const done = new AbortController();
  const unsubscribe = copy.subscribe(() => {
    if (copy.size >= size) done.abort(new Error('all is here'));
  });
  try {
    await followLog(await host.dial(peer, addresses), {
      mesh: copy.meshId,
      holder: { copy, begin: () => Promise.reject(new Error('there is a copy')) },
      signal: AbortSignal.any([done.signal, AbortSignal.timeout(FETCH_MS)]),
      onTip: () => {},
    });
  } catch {
    if (copy.failure !== null) throw copy.failure;
  } finally {
    unsubscribe();
  }
}

const noReplica = ({ folder, config }: Machine): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', 'only a replica can be promoted', {
    expected: 'the data folder of a member with the role replica',
    got: config.kind === 'hub' ? 'a founder’s data folder' : folder.paths.root,
    hint:
      config.kind === 'hub'
        ? 'start it: mesh-hub start'
        : 'name the folder of a replica with --dir; its role was given with the invite',
  });

/** A process of ours runs there: what stops it. */
function runningHint(thrown: unknown): SuperfleetError {
  const error = asSuperfleetError(thrown);
  if (error.code !== 'SF_LOCKED') return error;
  const { code, message, expected, got } = error;
  return new SuperfleetError(code, message, {
    expected,
    got,
    hint: 'stop it first: mesh-node stop',
    cause: thrown,
  });
}
