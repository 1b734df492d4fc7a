/** Loaded before the founder: its state keeps two tasks that have ended, and not ten thousand. */
import { registerHooks } from 'node:module';

const BOUND = 'endedTasksMax = 10_000;';

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.endsWith('/protocol/limits.ts')) return loaded;
    const source = String(loaded.source);
    if (!source.includes(BOUND)) throw new Error(`protocol/limits.ts no longer says ${BOUND}`);
    return { ...loaded, source: source.replace(BOUND, 'endedTasksMax = 2;') };
  },
});
