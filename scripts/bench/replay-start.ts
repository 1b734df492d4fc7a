/**
 * What a founder's start does with its log, in a process of its own so that its processor time and memory are those of
 * this alone: recovery (every line, every root, the last signatures) and every entry reduced into the state, without a
 * snapshot. Prints one line of JSON.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';

const [folder, snapshots = join(tmpdir(), 'superfleet-bench-no-snapshots')] = process.argv.slice(2);
const storage = new FileStorage(folder!);
const { log, state, spared } = await restart(storage, new FileSnapshotStore(snapshots), (at) =>
  Log.open({ storage, key: null, ...at }),
);
const { user, system } = process.cpuUsage();
console.log(
  JSON.stringify({
    size: state.mesh.size,
    root: log.checkpoint.root,
    spared,
    cpu: (user + system) / 1e6,
    rss: process.memoryUsage.rss(),
    rssMax: process.resourceUsage().maxRSS * 1024,
  }),
);
await log.close();
