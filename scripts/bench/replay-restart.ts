/**
 * What a founder's start does with a log that has a snapshot, in a process of its own: the snapshot is read, checked and
 * loaded, and what is newer is recovered and reduced. The time is from then on: Node and the modules are loaded before.
 * Prints one line of JSON.
 */
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';

const [folder, snapshots] = process.argv.slice(2);
const storage = new FileStorage(folder!);
const before = process.cpuUsage();
const began = performance.now();
const { log, state, spared } = await restart(storage, new FileSnapshotStore(snapshots!), (at) =>
  Log.open({ storage, key: null, ...at }),
);
const ms = performance.now() - began;
const { user, system } = process.cpuUsage(before);
console.log(
  JSON.stringify({
    size: state.mesh.size,
    spared,
    root: log.checkpoint.root,
    ms,
    cpuMs: (user + system) / 1e3,
  }),
);
await log.close();
