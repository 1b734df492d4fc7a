import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type ErrorObject, SuperfleetError } from '../protocol/errors.ts';
import type { EventBody } from './events.ts';

/** Which snapshot a thread is to make. */
export interface SnapshotOrder {
  /** Folders of the log's segments and of the snapshots. */
  log: string;
  snapshots: string;
  /** Mesh id. */
  mesh: string;
  /** Of a durable checkpoint. */
  size: number;
}

export type SnapshotAnswer = { body: EventBody<'log.snapshot'> } | { error: ErrorObject };

/** Of the same kind as this file: sources run as they are, what is published is JavaScript. */
const WORKER = new URL(`./snapshot-worker${extname(import.meta.url)}`, import.meta.url);

/**
 * Makes a snapshot as `makeSnapshot` does, in a thread that ends with it: neither its reading nor the states it holds stall
 * the caller. Rejects with what it threw, with `SF_INTERNAL` where the thread dies, and with the signal's reason; the file
 * is then there whole or not at all.
 */
export function makeSnapshotInThread(
  order: SnapshotOrder,
  signal: AbortSignal,
): Promise<EventBody<'log.snapshot'>> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const worker = new Worker(WORKER, { workerData: order, name: 'snapshot' });
    const abort = (): void => {
      // When it is over nothing of it writes any more.
      void worker.terminate().then(() => reject(signal.reason));
    };
    signal.addEventListener('abort', abort);
    worker.on('message', (answer: SnapshotAnswer) => {
      if ('body' in answer) return resolve(answer.body);
      const { code, message, ...detail } = answer.error;
      reject(new SuperfleetError(code, message, detail));
    });
    worker.on('error', (error) => {
      reject(new SuperfleetError('SF_INTERNAL', `the thread ended: ${error.message}`, { cause: error }));
    });
    worker.on('exit', (code) => {
      signal.removeEventListener('abort', abort);
      if (signal.aborted) return;
      reject(new SuperfleetError('SF_INTERNAL', `the thread ended with code ${code} and said nothing`));
    });
  });
}
