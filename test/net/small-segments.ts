/** Loaded before the founder, and before what it starts: a snapshot every ten entries, segments of some KiB. */
import { registerHooks } from 'node:module';

const CHANGES = [
  { file: '/hub/daemon/snapshots.ts', from: 'snapshotEntries = 25_000;', to: 'snapshotEntries = 10;' },
  { file: '/protocol/limits.ts', from: 'segmentBytes = 64 * MiB;', to: 'segmentBytes = 6 * 1024;' },
];

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    const change = CHANGES.find(({ file }) => url.endsWith(file));
    if (change === undefined) return loaded;
    const source = String(loaded.source);
    if (!source.includes(change.from)) throw new Error(`${change.file} no longer says ${change.from}`);
    return { ...loaded, source: source.replace(change.from, change.to) };
  },
});
