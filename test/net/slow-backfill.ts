/** Loaded before a founder and a replica: a snapshot every ten entries, small pieces, and a backfill that takes its time. */
import { registerHooks } from 'node:module';

const CHANGES: [string, string, string][] = [
  ['/hub/daemon/snapshots.ts', 'snapshotEntries = 25_000;', 'snapshotEntries = 10;'],
  [
    '/node/replica/backfill.ts',
    'backfillBytesPerSecond = 16 * 1024 * 1024;',
    'backfillBytesPerSecond = 2048;',
  ],
  ['/protocol/log-sync.ts', 'logPieceBytes = 256 * 1024;', 'logPieceBytes = 1024;'],
];

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    const change = CHANGES.find(([file]) => url.endsWith(file));
    if (change === undefined) return loaded;
    const [file, from, to] = change;
    const source = String(loaded.source);
    if (!source.includes(from)) throw new Error(`${file} no longer says ${from}`);
    return { ...loaded, source: source.replace(from, to) };
  },
});
