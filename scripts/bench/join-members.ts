/**
 * A process of many members, started by `join.bench.ts`: real hosts, the real member core and its driver, membership
 * and rosters as any member keeps them, but in memory, and with no sandbox: none of them takes an attempt.
 */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { MemoryBlobStore } from '../../node/blobs/memory.ts';
import { MemberCore } from '../../node/core/member.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import { MemberDriver } from '../../node/daemon/member.ts';
import { Membership, type SmallFiles } from '../../node/daemon/membership.ts';
import { fetchBlobs } from '../../node/network/blob-client.ts';
import { createHost, type Host } from '../../node/network/host.ts';
import { joinByInvite } from '../../node/network/join-client.ts';
import { startLink } from '../../node/network/link.ts';
import { Registry } from '../../node/network/registry.ts';
import { TailSources } from '../../node/network/tail-source.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { parseInvite } from '../../protocol/invite.ts';
import { rosterBytesMax } from '../../protocol/roster.ts';

/** Joins under way at one time in this process: the founder lets 32 strangers in at once. */
const JOINS_AT_ONCE = 12;

const inMemory: SmallFiles = { membership: '', roster: '', write: async () => {}, remove: async () => {} };

const capacity = {
  slots: 1,
  sandbox: null,
  limits: { memory: 'none', processes: 'none', disk: 'none' } as const,
  memoryBytes: 1,
  cpus: 1,
  diskFreeBytes: 1,
  models: [],
  tools: {},
  labels: {},
  ownerPaused: false,
};

const stops: (() => Promise<void>)[] = [];

/** Joins and opens its session; resolves when the founder has welcomed it. */
async function member(host: Host, token: string, name: string): Promise<void> {
  const invite = parseInvite(token);
  const joined = await joinByInvite(host, invite, { name, owner: 'bench' }, AbortSignal.timeout(60_000));
  const admission = { genesis: joined.genesis, certificate: joined.certificate, addresses: joined.addresses };
  const membership = await Membership.admit(admission, host.peer, inMemory);
  if (joined.roster !== null) await membership.takeRoster(Buffer.from(joined.roster));
  const registry = new Registry(host, membership);
  const store = new MemoryBlobStore();
  const restored = { mesh: joined.mesh, capacity, ready: [], ownerPaused: false, checkpoint: null };
  const driver = new MemberDriver({
    core: new MemberCore({ ...restored, rosterVersion: membership.rosterVersion }, systemClock()),
    runner: { run: () => Promise.reject(new Error('no attempts here')) },
    forget: async () => {},
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
    refused: (_code, message) => process.send?.({ event: 'failed', message }),
    warn: () => {},
  });
  await new Promise<void>((resolve) => {
    const link = startLink({
      host,
      founder: () => invite.founder,
      addresses: () => invite.addresses,
      attach: (session) => driver.attach(session),
      onState: ({ state }) => {
        if (state === 'online') resolve();
      },
    });
    stops.push(async () => {
      await driver.stop();
      await link.stop();
      await registry.stop();
      await host.stop();
    });
  });
}

async function main(count: number, prefix: string): Promise<void> {
  const hosts: Host[] = [];
  for (let n = 0; n < count; n++) {
    const privateKey = await generateKeyPair('Ed25519');
    hosts.push(await createHost({ privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false }));
  }
  process.send?.({ event: 'made' });
  const token = await told<{ token: string }>();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < hosts.length; n = next++) await member(hosts[n]!, token.token, `${prefix}-${n}`);
  };
  await Promise.all(Array.from({ length: JOINS_AT_ONCE }, worker));
  process.send?.({ event: 'online' });
  await told();
  await Promise.all(stops.map((stop) => stop()));
  process.disconnect();
}

const told = <T>(): Promise<T> =>
  new Promise((resolve) => process.once('message', (message) => resolve(message as T)));

main(Number(process.argv[2]), process.argv[3] ?? 'member').catch((error: unknown) => {
  process.send?.({ event: 'failed', message: String(error) });
  process.exit(1);
});
