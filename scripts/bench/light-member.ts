/**
 * A member of a mesh without a data folder, for benchmarks that need many or fast ones: a real host, the real member core
 * and its driver, membership and rosters as any member keeps them, but all in memory. What runs its attempts is the caller's.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { AttemptRunner } from '../../node/attempt/types.ts';
import { MemoryBlobStore } from '../../node/blobs/memory.ts';
import { MemberCore } from '../../node/core/member.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import { MemberDriver } from '../../node/daemon/member.ts';
import { Membership, type SmallFiles } from '../../node/daemon/membership.ts';
import { fetchBlobs } from '../../node/network/blob-client.ts';
import type { Host } from '../../node/network/host.ts';
import { type Joined, joinByInvite } from '../../node/network/join-client.ts';
import { startLink } from '../../node/network/link.ts';
import { Registry } from '../../node/network/registry.ts';
import { TailSources } from '../../node/network/tail-source.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { type Invite, parseInvite } from '../../protocol/invite.ts';
import { rosterBytesMax } from '../../protocol/roster.ts';
import type { Capacity, Lease } from '../../protocol/session.ts';

const JOIN_MS = 300_000;
const AGAIN_MS = 500;
const inMemory: SmallFiles = { membership: '', roster: '', write: async () => {}, remove: async () => {} };

/** One that takes no attempt: it has no sandbox. */
export const IDLE_CAPACITY: Capacity = {
  slots: 1,
  sandbox: null,
  limits: { memory: 'none', processes: 'none', disk: 'none' },
  memoryBytes: 1,
  cpus: 1,
  diskFreeBytes: 1,
  models: [],
  tools: {},
  labels: {},
  ownerPaused: false,
};

export interface LightMemberOptions {
  host: Host;
  token: string;
  name: string;
  capacity: Capacity;
  runner(mesh: string): AttemptRunner;
  /** The founder has settled this attempt: its result is in the log. */
  settled?(lease: Lease): void;
  refused(message: string): void;
}

/** As `mesh-node join` does: one that the founder has no room for now, or no time, tries again, as a machine would. */
async function joinAtLast(host: Host, invite: Invite, name: string): Promise<Joined> {
  const signal = AbortSignal.timeout(JOIN_MS);
  for (;;) {
    try {
      return await joinByInvite(host, invite, { name, owner: 'bench' }, signal);
    } catch (error) {
      const { code } = asSuperfleetError(error);
      if (signal.aborted || (code !== 'SF_UNREACHABLE' && code !== 'SF_TIMEOUT')) throw error;
      await delay(AGAIN_MS * (0.5 + Math.random()));
    }
  }
}

/** Joins and opens its session; resolves with its end when the founder has welcomed it. */
export async function lightMember(options: LightMemberOptions): Promise<() => Promise<void>> {
  const { host, name, capacity } = options;
  const invite = parseInvite(options.token);
  const joined = await joinAtLast(host, invite, name);
  const admission = { genesis: joined.genesis, certificate: joined.certificate, addresses: joined.addresses };
  const membership = await Membership.admit(admission, host.peer, inMemory);
  if (joined.roster !== null) await membership.takeRoster(Buffer.from(joined.roster));
  const registry = new Registry(host, membership);
  const store = new MemoryBlobStore();
  const restored = { mesh: joined.mesh, capacity, ready: [], ownerPaused: false, checkpoint: null };
  const driver = new MemberDriver({
    core: new MemberCore({ ...restored, rosterVersion: membership.rosterVersion }, systemClock()),
    runner: options.runner(joined.mesh),
    forget: async (lease) => options.settled?.(lease),
    fetch: async () => {},
    roster: async (blob) => {
      await fetchBlobs(host, invite.founder, [blob], store, AbortSignal.timeout(60_000));
      const bytes = await collectBytes(store.read(blob), rosterBytesMax, () => new Error('too large'));
      await store.delete(blob);
      return membership.takeRoster(bytes);
    },
    tails: new TailSources(),
    keepCheckpoint: () => {},
    renamed: () => {},
    refused: (_code, message) => options.refused(message),
    warn: () => {},
  });
  return new Promise((resolve) => {
    const link = startLink({
      host,
      founder: () => invite.founder,
      addresses: () => invite.addresses,
      attach: (session) => driver.attach(session),
      onState: ({ state }) => {
        if (state === 'online') resolve(stop);
      },
    });
    const stop = async (): Promise<void> => {
      await driver.stop();
      await link.stop();
      await registry.stop();
      await host.stop();
    };
  });
}
