import type { Beginning } from '../../ledger/log/beginning.ts';
import { MemorySnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';

/** What changes something on the disk, in the order in which it was done. */
export type Step = 'move' | 'keep' | 'remove';

/** A replica's copy of a log in memory: the log's segments, and what it needs while it has no beginning. */
export interface MemoryCopy {
  storage: MemoryStorage;
  segments: MemoryStorage;
  base: MemorySnapshotStore;
  beginning: Beginning;
}

/** `step` is called before each change; where it never resolves, the process stopped there. */
export function memoryCopy(
  step: (step: Step) => Promise<void> = async () => {},
  { storage = new MemoryStorage(), segments = new MemoryStorage(), base = new MemorySnapshotStore() } = {},
): MemoryCopy {
  const beginning: Beginning = {
    base: {
      list: () => base.list(),
      read: (size) => base.read(size),
      open: (size) => base.open(size),
      describe: (size) => base.describe(size),
      write: (size, file) => base.write(size, file),
      remove: async (size) => {
        await step('remove');
        await base.remove(size);
      },
      receive: async () => {
        const incoming = await base.receive();
        return {
          ...incoming,
          keep: async (size) => {
            await step('keep');
            await incoming.keep(size);
          },
        };
      },
    },
    segments,
    move: async (first, to) => {
      await step('move');
      if (to === 'log') storage.adopt(segments, first);
      else segments.adopt(storage, first);
    },
    clear: async () => {},
  };
  return { storage, segments, base, beginning };
}

/** What the next process finds after the one before stopped; writes of the dead change nothing there. */
export function afterCrash({ storage, segments, base }: MemoryCopy): MemoryCopy {
  const kept = new MemorySnapshotStore();
  for (const [size, bytes] of base.files) kept.files.set(size, bytes);
  return memoryCopy(undefined, {
    storage: storage.crash('process'),
    segments: segments.crash('process'),
    base: kept,
  });
}
