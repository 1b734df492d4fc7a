import type { SigningKey } from '../../protocol/keys.ts';
import { batchBytesMax, batchEntriesMax, entryLineBytesMax, segmentBytes } from '../../protocol/limits.ts';
import { checkpointBytesMax } from '../lines/checkpoint.ts';
import type { EventBody } from '../lines/events.ts';
import type { LogStorage } from '../storage/storage.ts';
import type { ChainState } from './chain.ts';
import type { ScanOptions, ScanProgress, ScanStart } from './scan.ts';

/** Bounds of one log; every log of a mesh may have others, the lines are the same. */
export interface LogLimits {
  /** @default `batchEntriesMax` */
  batchEntriesMax: number;
  /** @default `batchBytesMax`; never above it, since recovery takes nothing longer for torn. */
  batchBytesMax: number;
  /** A segment is closed after the batch that reaches this. @default `segmentBytes` */
  segmentBytes: number;
  /** Bytes of appends that wait for the disk; past it an append is refused with `SF_FULL`. */
  waitingBytesMax: number;
}

const defaultLimits: LogLimits = {
  batchEntriesMax,
  batchBytesMax,
  segmentBytes,
  waitingBytesMax: 64 * 1024 * 1024,
};
/** Room for the checkpoint line in a batch; its newlines are escaped. */
export const checkpointLineBytesMax = checkpointBytesMax + 1024;
export interface CreateLogOptions {
  storage: LogStorage;
  genesis: EventBody<'mesh.created'>;
  /** Must be the key that the genesis names. */
  key: SigningKey;
  /** Unix ms. */
  time: number;
  limits?: Partial<LogLimits>;
}

export interface OpenLogOptions {
  storage: LogStorage;
  /** Null: read only; nothing on the disk is changed, a torn tail is passed over. */
  key: SigningKey | null;
  /** Where reading begins: what a snapshot holds is neither read nor checked. @default all of it is */
  from?: ScanStart | null;
  /** The log begins here, at a snapshot that vouches for it: entries before come later. @default at entry 0 */
  begins?: ChainState | null;
  onProgress?: (progress: ScanProgress) => void;
  /** As `ScanOptions.onBatch`: the entries as recovery reads them. */
  onBatch?: NonNullable<ScanOptions['onBatch']>;
  limits?: Partial<LogLimits>;
}

/** The bounds with their defaults; throws a RangeError where recovery could not live with them. */
export function checkedLimits(given: Partial<LogLimits> = {}): LogLimits {
  const limits = { ...defaultLimits, ...given };
  if (
    limits.batchBytesMax > batchBytesMax ||
    limits.batchBytesMax < entryLineBytesMax + checkpointLineBytesMax
  ) {
    throw new RangeError(
      `batchBytesMax is from ${entryLineBytesMax + checkpointLineBytesMax} to ${batchBytesMax}, not ${limits.batchBytesMax}`,
    );
  }
  return limits;
}
