import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import { LogDamagedError } from '../../ledger/log/damage.ts';
import type { Log } from '../../ledger/log/log.ts';
import { scrubLog } from '../../ledger/log/scrub.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { writeFileAtomic } from '../../node/atomic-file.ts';
import type { LedgerProgress, LedgerReport } from '../api/port.ts';

/** A pass in the background begins no sooner after the one before. */
export const scrubEveryMs = 24 * 3_600_000;
/** How often it is looked whether one is due. */
const lookEveryMs = 10 * 60_000;

const passed = z.object({ time: z.number() });

export interface ScrubberOptions {
  storage: LogStorage;
  log: Log;
  /** Where the time of the last whole pass is kept. */
  file: string;
  /** Of the background; 0: no such passes. */
  bytesPerSecond: number;
  logger: Logger;
}

/**
 * Reads the founder's log anew while it works: at most one pass a day in the background, and whenever a person asks. Damage
 * halts the log, and so the founder, before anything more is appended.
 */
export class Scrubber {
  readonly #options: ScrubberOptions;
  readonly #ending = new AbortController();
  #passes: Promise<void> = Promise.resolve();

  constructor(options: ScrubberOptions) {
    this.#options = options;
  }

  /** Begins the passes in the background. */
  start(): void {
    if (this.#options.bytesPerSecond > 0) this.#passes = this.#run();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#passes;
  }

  /** One pass at full speed. Rejects with `SF_LOG_DAMAGED`, and the log is halted then. */
  async now(progress: (at: LedgerProgress) => void, signal: AbortSignal): Promise<LedgerReport> {
    return this.#pass(null, AbortSignal.any([signal, this.#ending.signal]), progress);
  }

  async #run(): Promise<void> {
    const { logger, bytesPerSecond } = this.#options;
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        if (await this.#due()) {
          const { size } = await this.#pass(bytesPerSecond, signal);
          logger.debug({ size }, 'the log was read anew, and holds');
        }
        await setTimeout(lookEveryMs, undefined, { signal, ref: false });
      } catch (error) {
        if (signal.aborted || error instanceof LogDamagedError) return;
        // A disk that refuses to read is told of at each look; whoever needs the line is refused, too.
        logger.error(`the log could not be read anew: ${String(error)}`);
        await setTimeout(lookEveryMs, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  async #pass(
    bytesPerSecond: number | null,
    signal: AbortSignal,
    progress?: (at: LedgerProgress) => void,
  ): Promise<LedgerReport> {
    const { storage, log, file } = this.#options;
    const { checkpoint } = log;
    try {
      const { tornBytes: _, ...report } = await scrubLog(storage, {
        checkpoint,
        begins: log.begins,
        bytesPerSecond,
        signal,
        ...(progress && {
          onProgress: ({ entries }) => progress({ checked: entries, size: checkpoint.size }),
        }),
      });
      await writeFileAtomic(file, `${JSON.stringify({ time: Date.now() })}\n`);
      return report;
    } catch (error) {
      if (error instanceof LogDamagedError) log.halt(error);
      throw error;
    }
  }

  async #due(): Promise<boolean> {
    return scrubDue(await readFile(this.#options.file, 'utf8').catch(() => null), Date.now());
  }
}

/** Whether a pass may begin; `kept` is what the last whole one left. A clock that went back says nothing. */
export function scrubDue(kept: string | null, now: number): boolean {
  try {
    const { time } = passed.parse(JSON.parse(kept ?? 'null'));
    return now < time || now - time >= scrubEveryMs;
  } catch {
    return true;
  }
}
