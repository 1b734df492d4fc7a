/**
 * Run as a process of its own: appends to the log of the folder given without end, and says on stdout `acked N HASH` for
 * every append once it is durable, N entries with that root. The parent kills it.
 */
import { writeSync } from 'node:fs';
import { Log } from '../../ledger/log.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import { KEY, long, started } from './kit.ts';

const folder = process.argv[2]!;
const log = await Log.open({
  storage: new FileStorage(folder),
  key: KEY,
  limits: { segmentBytes: 256 * 1024 },
});
writeSync(1, `cut ${log.cut?.bytes ?? 0}\n`);
for (let n = 0; ; n += 1) {
  // Long batches, so that a kill falls into a write as well as between two.
  const events = Array.from({ length: 1 + (n % 200) }, (_, at) =>
    at % 3 === 0 ? long(n, 2000) : started(n),
  );
  log
    .append(events, Date.now(), 1)
    .durable.then(({ size, root }) => writeSync(1, `acked ${size} ${root}\n`))
    .catch(() => process.exit(1));
  if (n % 3 === 0) await new Promise(setImmediate);
  if (log.waitingBytes > 8 * 1024 * 1024) await log.append([started(n)], Date.now(), 1).durable;
}
