import type { DurableLog } from './durable-log.ts';
import type { IndexStore } from './index-store.ts';

/** The index is brought up to date when the log has grown by so many entries: whoever asks it does not wait for more. */
const INDEX_AFTER = 4_096;

/**
 * Indexes what is durable, now and as the log grows, beside whatever else goes on. What comes is taken from memory: while the index
 * keeps up nothing is read from the log.
 */
export function keepIndexed(log: DurableLog, index: IndexStore, failed: (error: unknown) => void): void {
  const catchUp = (): void => {
    if (log.size - index.built < INDEX_AFTER) return;
    // Whoever asks the index next tries it again.
    index.catchUp().catch(failed);
  };
  log.subscribe((batch) => {
    index.take(batch);
    catchUp();
  });
  catchUp();
}
