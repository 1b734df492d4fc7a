import type { Log } from '../../../ledger/log/log.ts';
import type { LogCopy } from '../../../ledger/log/log-copy.ts';
import type { SnapshotStore } from '../../../ledger/snapshots/snapshot-store.ts';
import type { Registry } from '../../../node/network/registry.ts';
import { type Follower, LogSource } from '../../../node/replica/source.ts';
import { type Net, Signal } from '../network/hosts.ts';

export const TIME = 1_700_000_000_000;

/** Any entry, told from others by its number. */
export const event = (n: number) => ({
  type: 'secret.set' as const,
  body: { name: `NAME_${n}`, by: { kind: 'local' as const, user: 'u'.repeat(60), claimed: true as const } },
});

/** So many of them, 25 to a batch. */
export async function append(log: Log, from: number, many: number): Promise<void> {
  for (let n = from; n < from + many; n += 25) {
    const events = Array.from({ length: Math.min(25, from + many - n) }, (_, at) => event(n + at));
    await log.append(events, TIME, 1).durable;
  }
}

/** Serves a log from a host; what its followers hold comes out of `held`. */
export async function serve(
  net: Net,
  registry: Registry,
  mesh: string,
  log: () => Log | LogCopy | null,
  more: { snapshots?: SnapshotStore; mayFollow?: (peer: string) => boolean } = {},
): Promise<{ source: LogSource; held: Signal<Follower[]> }> {
  const held = new Signal<Follower[]>();
  const source = await LogSource.serve({
    registry,
    mesh,
    log,
    seen: () => ({ checkpoint: null, handovers: [] }),
    mayFollow: () => true,
    onFollowers: (followers) => held.put(followers),
    ...more,
  });
  net.onStop(async () => source.stop());
  return { source, held };
}

/** The follower, once it holds so much. */
export async function untilHeld(held: Signal<Follower[]>, peer: string, size: number): Promise<Follower> {
  for (;;) {
    const found = (await held.next()).find((follower) => follower.peer === peer && follower.size >= size);
    if (found !== undefined) return found;
  }
}
