/**
 * What a founder's start does with its log, in a process of its own so that its processor time and memory are those of
 * this alone: recovery (every line, every root, the last signatures) and every entry reduced into the state. Prints one
 * line of JSON.
 */
import { Log } from '../../ledger/log.ts';
import { applyEntry, initialState, parsedEntry } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage-file.ts';

const [folder] = process.argv.slice(2);
const state = initialState();
const log = await Log.open({
  storage: new FileStorage(folder!),
  key: null,
  onBatch: (entries) => {
    for (const entry of entries) applyEntry(state, entry, parsedEntry(entry));
  },
});
const { user, system } = process.cpuUsage();
console.log(
  JSON.stringify({
    size: state.mesh.size,
    root: log.checkpoint.root,
    cpu: (user + system) / 1e6,
    rss: process.memoryUsage.rss(),
    rssMax: process.resourceUsage().maxRSS * 1024,
  }),
);
await log.close();
