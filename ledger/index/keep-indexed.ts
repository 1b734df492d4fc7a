import type { DurableLog } from '../log/durable-log.ts';
import type { IndexStore } from './index-store.ts';

/** The index is brought up to date when the log has grown by so many entries: whoever asks it does not wait for more. */
const INDEX_AFTER = 4_096;
/** After it failed it is tried again when the log has grown by so many, doubled each time at most so often: each reads the log again. */
const DOUBLED_MAX = 4;

/**
 * Indexes what is durable, now and as the log grows, beside whatever else goes on. What comes is taken from memory: while the index
 * keeps up nothing is read from the log.
 */
export function keepIndexed(log: DurableLog, index: IndexStore, failed: (error: unknown) => void): void {
  let working = false;
  let failures = 0;
  let notBefore = 0;
  const catchUp = (): void => {
    if (working || log.size - index.built < INDEX_AFTER || log.size < notBefore) return;
    working = true;
    index.catchUp().then(
      () => {
        working = false;
        failures = 0;
      },
      (error: unknown) => {
        working = false;
        // Whoever asks the index before then tries it all the same.
        notBefore = log.size + INDEX_AFTER * 2 ** Math.min(failures, DOUBLED_MAX);
        failures += 1;
        failed(error);
      },
    );
  };
  log.subscribe((batch) => {
    index.take(batch);
    catchUp();
  });
  catchUp();
}
