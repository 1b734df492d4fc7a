/**
 * Run as a process of its own: waits for a line, then appends without end to the log of the folder that the line names,
 * which it makes where there is none. Says on stdout `open SIZE`, then `acked N ROOT` for every append once it is durable,
 * N entries with that root. The parent kills it.
 */
import { writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { createInterface } from 'node:readline';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { KEY, long, newLog, started } from './kit.ts';

const limits = { segmentBytes: 64 * 1024 };
// Before it is killed: what comes after this one starts in a quarter of the time.
flushCompileCache();
writeSync(1, 'ready\n');
const { promise, resolve } = Promise.withResolvers<string>();
createInterface({ input: process.stdin }).once('line', resolve);
const storage = new FileStorage(await promise);
const log = await ((await storage.list()).length === 0
  ? newLog(storage, limits)
  : Log.open({ storage, key: KEY, limits }));
writeSync(1, `open ${log.size} ${log.cut?.bytes ?? 0}\n`);
for (let n = 0; ; n += 1) {
  // Batches of very different lengths, so that a kill falls into a write as well as between two.
  const events = Array.from({ length: 1 + ((n * 7) % 20) }, (_, at) =>
    at % 2 === 0 ? long(n, 2000) : started(n),
  );
  log
    .append(events, Date.now(), 1)
    .durable.then(({ size, root }) => writeSync(1, `acked ${size} ${root}\n`))
    .catch(() => process.exit(1));
  if (n % 3 === 0) await new Promise(setImmediate);
  if (log.waitingBytes > 256 * 1024) await log.append([started(n)], Date.now(), 1).durable;
}
