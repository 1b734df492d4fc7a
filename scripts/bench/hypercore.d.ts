/** The part of hypercore 11.20 that the benchmarks use; it comes without types. */
declare module 'hypercore' {
  import type { Duplex } from 'node:stream';

  export default class Hypercore {
    /** `key`: of another's core, to be replicated. */
    constructor(folder: string, key?: Uint8Array);
    readonly key: Uint8Array;
    readonly length: number;
    readonly contiguousLength: number;
    ready(): Promise<void>;
    append(blocks: Uint8Array[]): Promise<{ length: number; byteLength: number }>;
    get(index: number): Promise<Uint8Array>;
    replicate(initiator: boolean): Duplex;
    update(options: { wait: boolean }): Promise<boolean>;
    download(range: { start: number; end: number }): { done(): Promise<void> };
    close(): Promise<void>;
  }
}
