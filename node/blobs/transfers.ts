import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import type { BlobManifest } from '../../protocol/manifest.ts';
import type { Turns } from '../turns.ts';
import { chargeOf, type Quota, Reservation } from './quota.ts';
import { Transfer } from './transfer.ts';
import type { BlobReceiver } from './types.ts';

/** Transfers begun and not ended, in one store. */
const transfersMax = 256;
/** A half-received blob that nobody came back for is dropped when the store is next opened. */
const partKeptMs = 24 * 3_600_000;
const PART = '.part';

export interface TransfersOptions {
  /** Of half-received blobs. */
  folder: string;
  quota: Quota;
  turns: Turns;
  /** Gives a complete, synced part its name among the blobs; keeps what was reserved for it. */
  publish(blob: string, manifest: BlobManifest, part: string, reservation: Reservation): Promise<void>;
}

/** Blobs on their way into a store on disk, and parts of some that no transfer has taken up yet. */
export class Transfers {
  readonly #options: TransfersOptions;
  readonly #open = new Map<string, Transfer>();
  /** Half-received blobs on the disk that no transfer has taken up yet, with what they count. */
  readonly #parts = new Map<string, number>();

  constructor(options: TransfersOptions) {
    this.#options = options;
  }

  /** Begins one, takes up what is left of one, or joins the one under way. Only in the blob's turn. `SF_FULL` past the bounds. */
  async receive(blob: string, manifest: BlobManifest): Promise<BlobReceiver> {
    const known = this.#open.get(blob);
    if (known !== undefined) return known.join();
    if (this.#open.size >= transfersMax) {
      throw new SuperfleetError('SF_FULL', 'too many transfers at once', { expected: `${transfersMax}` });
    }
    const { folder, quota, turns, publish } = this.#options;
    const reservation = new Reservation(quota);
    quota.release(this.#parts.get(blob) ?? 0);
    this.#parts.delete(blob);
    const part = join(folder, `${blob}${PART}`);
    try {
      reservation.grow(manifest.bytes);
    } catch (error) {
      await rm(part, { force: true });
      throw error;
    }
    const transfer = await Transfer.open(part, blob, manifest, {
      publish: (from) => publish(blob, manifest, from, reservation),
      inTurn: (work) => turns.inTurn(blob, work),
      ended: () => {
        if (this.#open.get(blob) === transfer) this.#open.delete(blob);
        reservation.release();
      },
    }).catch((error: unknown) => {
      reservation.release();
      throw error;
    });
    this.#open.set(blob, transfer);
    return transfer.join();
  }

  /** Counts parts that a transfer may still take up; removes whatever else is in the folder. */
  async sweep(held: ReadonlySet<string>): Promise<void> {
    const { folder, quota } = this.#options;
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const stat = await lstat(path);
      const blob = name.endsWith(PART) ? name.slice(0, -PART.length) : '';
      const wanted = stat.isFile() && blobId.safeParse(blob).success && !held.has(blob);
      if (wanted && Date.now() - stat.mtimeMs < partKeptMs) {
        this.#parts.set(blob, chargeOf(stat.size));
        quota.charge(chargeOf(stat.size));
      } else {
        await rm(path, { force: true, recursive: true });
      }
    }
  }
}
