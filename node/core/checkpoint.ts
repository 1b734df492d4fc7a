import type { Outbox } from './outbox.ts';
import type { MemberRestored } from './types.ts';

/**
 * Size named by a checkpoint's text (C2SP: origin, size, root, blank line, signatures); -1 for none or nonsense. Who
 * compares sizes must have verified the signature, or be content that a wrong one only delays it.
 */
export function checkpointSize(checkpoint: string | null): number {
  const line = checkpoint?.split('\n', 2)[1] ?? '';
  return /^(0|[1-9][0-9]{0,15})$/.test(line) ? Number(line) : -1;
}

/** The newest checkpoint that a member was shown, and that it gave out to be kept. */
export class SeenCheckpoint {
  readonly #weigh: NonNullable<MemberRestored['weigh']>;
  readonly #out: Outbox;
  #newest: string | null;
  /** The newest that was given out to be kept. */
  #kept: string | null;

  constructor({ checkpoint, weigh = larger }: MemberRestored, out: Outbox) {
    this.#newest = checkpoint;
    this.#kept = checkpoint;
    this.#weigh = weigh;
    this.#out = out;
  }

  /** As text. */
  get newest(): string | null {
    return this.#newest;
  }

  /** The founder shows this one. */
  shown(checkpoint: string | null): void {
    if (checkpoint === null || checkpoint === this.#kept) return;
    if (checkpoint !== this.#newest && !this.weighed(checkpoint)) return;
    this.#kept = checkpoint;
    this.#out.push({ type: 'keepCheckpoint', checkpoint });
  }

  /** True: it is the newest seen from here on. */
  weighed(checkpoint: string): boolean {
    if (checkpoint === this.#newest) return false;
    const weighed = this.#weigh(this.#newest, checkpoint);
    if (weighed === 'conflict') {
      this.#out.push({ type: 'conflict', checkpoints: [this.#newest!, checkpoint] });
    }
    if (weighed === 'keep') this.#newest = checkpoint;
    return weighed === 'keep';
  }
}

const larger = (held: string | null, shown: string): 'keep' | 'pass' =>
  checkpointSize(shown) > checkpointSize(held) ? 'keep' : 'pass';
