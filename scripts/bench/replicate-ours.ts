/**
 * One end of a catch-up, in a process of its own. `source FOLDER`: a log in files, served from a host. `follow FOLDER
 * ENTRIES`: a replica that begins with nothing and keeps its copy in files; it tells how long it took to hold that many,
 * each piece verified and synced.
 */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { createHost } from '../../node/network/host.ts';
import { Neighbours } from '../../node/network/neighbours.ts';
import { Registry } from '../../node/network/registry.ts';
import { Replica } from '../../node/replica/replica.ts';
import { LogSource } from '../../node/replica/source.ts';
import { serveEnd, type Took, took } from './replicate-ends.ts';

const privateKey = await generateKeyPair('Ed25519');
const host = await createHost({ privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false });

async function source(folder: string): Promise<() => Promise<void>> {
  const registry = new Registry(host, { isMember: () => true, isFounder: () => false });
  const log = await Log.open({ storage: new FileStorage(folder), key: null });
  const serving = await LogSource.serve({
    registry,
    mesh: log.meshId,
    log: () => log,
    seen: () => ({ checkpoint: null, handovers: [] }),
    mayFollow: () => true,
  });
  process.send?.({ at: { peer: host.peer, addresses: host.addresses(), mesh: log.meshId } });
  return async () => {
    serving.stop();
    await host.stop();
    await log.close();
  };
}

async function follow(
  folder: string,
  entries: number,
  at: { peer: string; addresses: string[]; mesh: string },
): Promise<Took> {
  const replica = await Replica.open({
    host,
    mesh: at.mesh,
    storage: new FileStorage(folder),
    neighbours: new Neighbours(host, () => true),
    founder: () => at,
    replicas: () => [],
    onEvent: ({ error }) => {
      if (error !== null) process.send?.({ failed: error.message });
    },
  });
  const done = Promise.withResolvers<void>();
  replica.onBegun((copy) => {
    const look = (): void => {
      if (copy.size >= entries) done.resolve();
    };
    copy.subscribe(look);
    look();
  });
  const result = await took(async () => {
    replica.start();
    await done.promise;
  });
  await replica.stop();
  await host.stop();
  return result;
}

await serveEnd({ source, follow });
