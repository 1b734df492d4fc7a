import { PassThrough } from 'node:stream';
import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { usage } from '../../protocol/usage.ts';
import type { ResultBlobs } from '../attempt/result-blobs.ts';
import type { AttemptHooks } from '../attempt/types.ts';
import type { RepositoryCache } from '../git/repository-cache.ts';
import { mark } from '../timing.ts';
import {
  type Answer,
  answer,
  bytes,
  type Hearer,
  hearer,
  nextNumber,
  number,
  type Service,
} from './answers.ts';

/** Blobs that one attempt may want at once. */
const blobsMax = 65_536;
/** Transfers into the store that one attempt has open. */
const puttingMax = 16;
/** Bytes that a worker may read of a blob without a file. */
const readBytesMax = 16 * 1024 * 1024;
const name = z.string().min(1).max(512);

/** What an attempt says while it goes on, what it fetches, and whose turn it is at a repository. */
export class AttemptService implements Service {
  readonly asks: Readonly<Record<string, Answer>>;
  readonly tells: Readonly<Record<string, Hearer>>;
  readonly #turns = new Map<number, () => void>();
  #closed = false;

  constructor(hooks: AttemptHooks, cache: Pick<RepositoryCache, 'inTurn'>) {
    this.asks = {
      fetch: answer(z.tuple([z.array(blobId).max(blobsMax)]), ([blobs], signal) =>
        hooks.fetch(blobs, signal),
      ),
      turn: answer(z.tuple([name]), ([repository]) => this.#turn(cache, repository)),
    };
    this.tells = {
      started: hearer(z.tuple([]), () => hooks.started()),
      progress: hearer(
        z.tuple([z.enum(['fetch', 'prepare', 'run', 'check', 'converge']), number]),
        ([phase, logBytes]) => hooks.progress(phase, logBytes),
      ),
      used: hearer(z.tuple([usage]), ([used]) => hooks.used?.(used)),
      output: hearer(z.tuple([bytes]), ([chunk]) => hooks.output(chunk)),
      turnDone: hearer(z.tuple([number]), ([turn]) => {
        this.#turns.get(turn)?.();
        this.#turns.delete(turn);
      }),
      mark: hearer(z.tuple([name, name]), ([task, step]) => mark(task, step)),
    };
  }

  #turn(cache: Pick<RepositoryCache, 'inTurn'>, repository: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const work = (): Promise<void> =>
        new Promise((done) => {
          if (this.#closed) return done();
          const turn = nextNumber();
          this.#turns.set(turn, done);
          resolve(turn);
        });
      cache.inTurn(repository, work).catch(reject);
    });
  }

  close(): void {
    this.#closed = true;
    for (const done of this.#turns.values()) done();
    this.#turns.clear();
  }
}

/** The blobs that an attempt puts and holds. */
export class BlobService implements Service {
  readonly asks: Readonly<Record<string, Answer>>;
  readonly tells: Readonly<Record<string, Hearer>>;
  readonly #blobs: ResultBlobs;
  readonly #held = new Map<string, number>();
  readonly #putting = new Map<number, { stream: PassThrough; stored: Promise<ResultBlob> }>();
  #closed = false;

  constructor(blobs: ResultBlobs) {
    this.#blobs = blobs;
    const { store } = blobs;
    this.asks = {
      has: answer(z.tuple([blobId]), ([blob]) => store.has(blob)),
      path: answer(z.tuple([blobId]), ([blob]) => store.path(blob)),
      read: answer(z.tuple([blobId]), ([blob]) => this.#read(blob)),
      settled: answer(z.tuple([]), () => blobs.settled()),
      put: answer(z.tuple([bytes]), ([whole]) => this.#put(whole)),
      putBegin: answer(z.tuple([]), () => this.#begin()),
      putMore: answer(z.tuple([number, bytes]), ([put, piece]) => this.#more(put, piece)),
      putEnd: answer(z.tuple([number]), async ([put]) => {
        const { stream, stored } = this.#open(put);
        stream.end();
        return stored.finally(() => this.#putting.delete(put));
      }),
    };
    this.tells = {
      putDrop: hearer(z.tuple([number]), ([put]) => {
        this.#putting.get(put)?.stream.destroy(new Error('its source broke off'));
        this.#putting.delete(put);
      }),
      hold: hearer(z.tuple([blobId]), ([blob]) => {
        this.#blobs.hold(blob);
        this.#count(blob, 1);
      }),
      release: hearer(z.tuple([blobId]), ([blob]) => {
        if (!this.#held.has(blob))
          throw new SuperfleetError('SF_FRAME', 'a worker let go of what it has not');
        this.#count(blob, -1);
        this.#blobs.release(blob);
      }),
    };
  }

  /** True: the attempt holds each of these. From here on they are the caller's. */
  keep(blobs: readonly string[]): boolean {
    return blobs.every((blob) => {
      if (!this.#held.has(blob)) return false;
      this.#count(blob, -1);
      return true;
    });
  }

  close(): void {
    this.#closed = true;
    for (const { stream } of this.#putting.values()) stream.destroy(new Error('its worker is gone'));
    this.#putting.clear();
    for (const [blob, times] of this.#held) for (let at = 0; at < times; at += 1) this.#blobs.release(blob);
    this.#held.clear();
  }

  /** Of a blob that is no file of its own, which only small ones are. */
  async #read(blob: string): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.#blobs.store.read(blob)) {
      size += chunk.length;
      if (size > readBytesMax)
        throw new SuperfleetError('SF_FULL', 'a blob without a file is too large to be read at once');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  #count(blob: string, change: 1 | -1): void {
    const times = (this.#held.get(blob) ?? 0) + change;
    if (times === 0) this.#held.delete(blob);
    else this.#held.set(blob, times);
  }

  async #put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    const stored = await this.#blobs.put(source);
    if (this.#closed) this.#blobs.release(stored.blob);
    else this.#count(stored.blob, 1);
    return stored;
  }

  #begin(): number {
    if (this.#putting.size >= puttingMax) throw new SuperfleetError('SF_FULL', 'too many blobs at once');
    const put = nextNumber();
    const stream = new PassThrough();
    // Broken off by this side, which says why elsewhere.
    stream.on('error', () => {});
    const stored = this.#put(stream);
    stored.catch(() => {});
    this.#putting.set(put, { stream, stored });
    return put;
  }

  #open(put: number): { stream: PassThrough; stored: Promise<ResultBlob> } {
    const open = this.#putting.get(put);
    if (open === undefined) throw new SuperfleetError('SF_CONFLICT', 'that blob is not being put');
    return open;
  }

  /** Resolves when there is room for more; rejects with what the store said. */
  async #more(put: number, piece: Uint8Array): Promise<void> {
    const { stream, stored } = this.#open(put);
    if (stream.write(piece)) return;
    const { promise: drained, resolve } = Promise.withResolvers<void>();
    stream.once('drain', resolve);
    try {
      await Promise.race([drained, stored]);
    } finally {
      stream.off('drain', resolve);
    }
  }
}
