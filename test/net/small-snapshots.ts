/** Loaded before the founder: it makes a snapshot every ten entries, and not every twenty-five thousand. */
import { registerHooks } from 'node:module';

const INTERVAL = 'snapshotEntries = 25_000;';

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.endsWith('/hub/daemon/snapshots.ts')) return loaded;
    const source = String(loaded.source);
    if (!source.includes(INTERVAL)) throw new Error(`hub/daemon/snapshots.ts no longer says ${INTERVAL}`);
    return { ...loaded, source: source.replace(INTERVAL, 'snapshotEntries = 10;') };
  },
});
