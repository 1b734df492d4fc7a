import { SuperfleetError } from '../../protocol/errors.ts';
import type { LogStorage, SegmentFile } from '../storage/storage.ts';

/** Where the next batch goes. */
export interface WriterPosition {
  /** First index of the open segment; null where there is none yet. */
  segment: number | null;
  /** Its length: every byte before is synced. */
  end: number;
}

/**
 * Puts batches behind each other into segments: one write and one sync for each. After a failure nothing more is
 * written, and the segment is cut back to the last good byte where the disk lets it.
 */
export class SegmentWriter {
  readonly #storage: LogStorage;
  readonly #segmentBytes: number;
  #segment: number | null;
  #end: number;
  #file: SegmentFile | null = null;

  constructor(storage: LogStorage, at: WriterPosition, segmentBytes: number) {
    this.#storage = storage;
    this.#segment = at.segment;
    this.#end = at.end;
    this.#segmentBytes = segmentBytes;
  }

  /** How far everything is synced. */
  get position(): WriterPosition {
    return { segment: this.#segment, end: this.#end };
  }

  /** Writes one batch whose first entry is `first`. When it resolves, the bytes outlast a loss of power. */
  async write(first: number, bytes: Buffer): Promise<{ segment: number; offset: number }> {
    const fresh = this.#segment === null || this.#end >= this.#segmentBytes;
    if (fresh) await this.#begin(first);
    this.#file ??= await this.#storage.open(this.#segment!, 'write');
    for (let done = 0; done < bytes.length; ) {
      const taken = await this.#file.write(bytes.subarray(done), this.#end + done);
      if (taken <= 0) throw Object.assign(new Error('the disk took no bytes'), { code: 'EIO' });
      done += taken;
    }
    await this.#file.sync();
    if (fresh) await this.#storage.syncDirectory();
    const offset = this.#end;
    this.#end += bytes.length;
    return { segment: this.#segment!, offset };
  }

  /** After a failure: takes back what of the last write may stand there. Never throws: the disk may be gone. */
  async cutBack(): Promise<void> {
    try {
      await this.#file?.truncate(this.#end);
      await this.#file?.sync();
    } catch {
      // Recovery cuts it at the next start; the caller already has the first error.
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  async #begin(first: number): Promise<void> {
    await this.close();
    this.#file = await this.#storage.create(first);
    this.#segment = first;
    this.#end = 0;
  }
}

/** A disk's refusal as the error people see. */
export function diskFailure(error: unknown, where: string): SuperfleetError {
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new SuperfleetError(
    full ? 'SF_DISK_FULL' : 'SF_LOG_FAILED',
    full ? `no room for the log in ${where}` : `the log in ${where} cannot be written: ${message}`,
    {
      got: code ?? message,
      hint: full
        ? 'Nothing that was acknowledged is lost. Free some space, then start again.'
        : 'Nothing that was acknowledged is lost. See to the disk, then start again.',
      cause: error,
    },
  );
}
