import { createReadStream } from 'node:fs';
import type { ResultBlob } from '../../protocol/session.ts';
import type { AttemptBlobs, AttemptEnvironments } from '../attempt/context.ts';
import type { AttemptHooks } from '../attempt/types.ts';
import type { AllowedHost } from '../environment/admission.ts';
import type { WantedEnvironment } from '../environment/environments.ts';
import type { PrepareRequest } from '../environment/prepare.ts';
import { Prepared } from '../environment/prepared.ts';
import type { ProxyEvent } from '../environment/proxy.ts';
import type { Turns } from '../turns.ts';
import type { Calls } from './calls.ts';
import type { LentEnvironment } from './order.ts';

/** Bytes of a blob that are sent to the node at once. */
const pieceBytes = 512 * 1024;

/** What an attempt says, said to the node. */
export const remoteHooks = (calls: Calls): AttemptHooks => ({
  started: () => calls.tell('started'),
  progress: (phase, logBytes) => calls.tell('progress', phase, logBytes),
  used: (usage) => calls.tell('used', usage),
  output: (chunk) => calls.tell('output', chunk),
  fetch: async (blobs, signal) => {
    await calls.ask('fetch', [blobs], signal);
  },
});

/** Turns that all workers of a node take. */
export class RemoteTurns implements Turns {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  async inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const turn = await this.#calls.ask('turn', [name]);
    try {
      return await work();
    } finally {
      this.#calls.tell('turnDone', turn);
    }
  }
}

/** The node's store. */
export class RemoteBlobs implements AttemptBlobs {
  readonly store: AttemptBlobs['store'];
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
    const path = (blob: string): Promise<string | null> =>
      calls.ask('path', [blob]) as Promise<string | null>;
    this.store = {
      has: (blob) => calls.ask('has', [blob]) as Promise<boolean>,
      path,
      read: async function* (blob) {
        const file = await path(blob);
        if (file === null) yield (await calls.ask('read', [blob])) as Uint8Array;
        else yield* createReadStream(file) as AsyncIterable<Uint8Array>;
      },
    };
  }

  async put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    if (source instanceof Uint8Array && source.length <= pieceBytes)
      return (await this.#calls.ask('put', [source])) as ResultBlob;
    const put = await this.#calls.ask('putBegin', []);
    try {
      for await (const chunk of source instanceof Uint8Array ? [source] : source) {
        for (let from = 0; from < chunk.length; from += pieceBytes) {
          await this.#calls.ask('putMore', [put, chunk.subarray(from, from + pieceBytes)]);
        }
      }
    } catch (error) {
      this.#calls.tell('putDrop', put);
      throw error;
    }
    return (await this.#calls.ask('putEnd', [put])) as ResultBlob;
  }

  hold(blob: string): void {
    this.#calls.tell('hold', blob);
  }

  release(blob: string): void {
    this.#calls.tell('release', blob);
  }

  async settled(): Promise<void> {
    await this.#calls.ask('settled', []);
  }
}

/**
 * Begun by this process: one goes on for others where its attempt is stopped, and what it says must not come to the log of the next
 * attempt here.
 */
let preparations = 0;

/** The node's environments: it prepares them, and asks back for the log. */
export class RemoteEnvironments implements AttemptEnvironments {
  readonly #calls: Calls;
  readonly #hosts: readonly AllowedHost[];
  readonly #preparing = new Map<number, PrepareRequest>();

  constructor(calls: Calls, hosts: readonly AllowedHost[]) {
    this.#calls = calls;
    this.#hosts = hosts;
  }

  hosts(): readonly AllowedHost[] {
    return this.#hosts;
  }

  versions(): Promise<Record<string, string>> {
    return this.#calls.ask('versions', []) as Promise<Record<string, string>>;
  }

  async store(): Promise<Awaited<ReturnType<AttemptEnvironments['store']>>> {
    return {
      use: async (digest) => {
        const lent = (await this.#calls.ask('use', [digest])) as LentEnvironment | null;
        return lent === null ? null : this.#prepared(lent);
      },
      prepare: (request, signal) => this.#prepare(request, signal),
    };
  }

  async shipped(wanted: WantedEnvironment, signal: AbortSignal) {
    const found = (await this.#calls.ask('shipped', [wanted], signal)) as {
      environment: LentEnvironment;
      files: number | null;
      bytes: number;
    } | null;
    return found === null ? null : { ...found, environment: this.#prepared(found.environment) };
  }

  /** What the node asks back of one that is being prepared. */
  async answer(of: string, [at, what]: unknown[]): Promise<void> {
    const log = this.#preparing.get(at as number)?.log;
    if (of === 'prepareSays') await log?.say(what as string);
    else await log?.write(what as Uint8Array);
  }

  hear([at, event]: unknown[]): void {
    this.#preparing.get(at as number)?.onNetwork?.(event as ProxyEvent);
  }

  async #prepare(request: PrepareRequest, signal: AbortSignal): Promise<Prepared> {
    const at = ++preparations;
    this.#preparing.set(at, request);
    const { checkout, recipe, digest, allowed, limits } = request;
    try {
      const wanted = { checkout, recipe, digest, allowed, limits };
      return this.#prepared((await this.#calls.ask('prepare', [at, wanted], signal)) as LentEnvironment);
    } finally {
      this.#preparing.delete(at);
    }
  }

  #prepared({ number, folder, file }: LentEnvironment): Prepared {
    return new Prepared(folder, file, () => this.#calls.tell('environmentDone', number));
  }
}
