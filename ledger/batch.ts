import type { Checkpoint } from './checkpoint.ts';
import { formatCheckpoint } from './line.ts';

/** Lines of one batch and its checkpoint, as they are written. */
export function batchOf(lines: readonly string[], checkpoint: Checkpoint): Buffer {
  return Buffer.from(`${lines.join('\n')}\n${formatCheckpoint(checkpoint)}\n`);
}
