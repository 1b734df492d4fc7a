/**
 * One end of a catch-up by hypercore, in a process of its own. `source FOLDER`: a core on disk, replicated to whoever comes
 * over TCP, with the encryption that hypercore has by itself. `follow FOLDER ENTRIES`: a new core on disk that downloads
 * all blocks; hypercore verifies each.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import Hypercore from 'hypercore';
import { serveEnd, type Took, took } from './replicate-ends.ts';

function join(core: Hypercore, socket: Socket, initiator: boolean): void {
  const stream = core.replicate(initiator);
  // An end that goes away is no error here: who waits for blocks fails by itself.
  for (const each of [stream, socket]) each.on('error', () => {});
  socket.pipe(stream).pipe(socket);
}

async function source(folder: string): Promise<() => Promise<void>> {
  const core = new Hypercore(folder);
  await core.ready();
  const server = createServer((socket) => join(core, socket, false)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  process.send?.({ at: { port, key: Buffer.from(core.key).toString('hex') } });
  return async () => {
    server.close();
    await core.close();
  };
}

async function follow(folder: string, entries: number, at: { port: number; key: string }): Promise<Took> {
  const core = new Hypercore(folder, Buffer.from(at.key, 'hex'));
  await core.ready();
  const result = await took(async () => {
    const socket = connect(at.port, '127.0.0.1');
    join(core, socket, true);
    await core.update({ wait: true });
    await core.download({ start: 0, end: entries }).done();
  });
  if (core.contiguousLength !== entries)
    throw new Error(`${core.contiguousLength} of ${entries} blocks came`);
  await core.close();
  return result;
}

await serveEnd({ source, follow });
