import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import type { EventBody } from '../../ledger/lines/events.ts';
import type { Compressed } from '../../ledger/log/compress.ts';
import type { SnapshotAnswer, SnapshotOrder } from '../../ledger/snapshots/snapshot-process.ts';
import { ownEnvironment } from '../../node/own-environment.ts';
import { ownModule, ownProgram } from '../../node/own-program.ts';
import { type ErrorObject, SuperfleetError } from '../../protocol/errors.ts';

const PROGRAM = ownModule('ledger/snapshots/snapshot-process');
/** Last words of a process that died, for its error. */
const wordsMax = 2_000;

/** What is told while the process goes on. */
export interface Told {
  /** The snapshot is on the disk. */
  made?(body: EventBody<'log.snapshot'>): void;
  /** Where that was asked for. */
  compressed?(done: Compressed): void;
  uncompressed?(why: SuperfleetError): void;
}

/**
 * Makes a snapshot as `makeSnapshot` does, in a process that ends with it, or with this one: neither its reading nor the
 * states it holds stall the caller, and their memory goes with it. It gives way to others at the processor. Rejects with what
 * was thrown there, with `SF_INTERNAL` where the process dies, and with the signal's reason; the file is then there whole or
 * not at all, and the process is gone. Where segments are compressed too, it resolves after that.
 */
export function makeSnapshotInProcess(
  order: SnapshotOrder,
  signal: AbortSignal,
  told: Told = {},
): Promise<EventBody<'log.snapshot'>> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const { command, args, descriptors } = ownProgram(PROGRAM);
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc', ...descriptors],
      windowsHide: true,
      env: ownEnvironment(),
    });
    let body: EventBody<'log.snapshot'> | null = null;
    let failure: SuperfleetError | null = null;
    let words = '';
    const abort = (): void => void child.kill('SIGKILL');
    signal.addEventListener('abort', abort);
    const ended = (how: string): void => {
      signal.removeEventListener('abort', abort);
      if (signal.aborted) reject(signal.reason);
      else if (body === null) reject(failure ?? died(how, words));
      else resolve(body);
    };
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      words = `${words}${text}`.slice(-wordsMax);
    });
    child.on('message', (message) => {
      const said = message as SnapshotAnswer;
      if ('error' in said) failure = asError(said.error);
      else if ('uncompressed' in said) told.uncompressed?.(asError(said.uncompressed));
      else if ('compressed' in said) told.compressed?.(said.compressed);
      else {
        body = said.body;
        told.made?.(body);
      }
    });
    child.on('error', (error) => {
      if (child.pid === undefined) ended(`did not start: ${error.message}`);
    });
    // Nothing of it writes any more.
    child.on('close', (code, killed) => {
      const how = `ended with ${killed ?? `code ${code}`}`;
      if (body !== null && code !== 0 && !signal.aborted) told.uncompressed?.(died(how, words));
      ended(how);
    });
    if (child.pid === undefined) return;
    giveWay(child.pid);
    // One that is dead already is told of by `close`.
    child.send(order, () => {});
  });
}

/** Not the lowest there is: beside tasks that take every processor it would never end. */
function giveWay(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It is dead, which is told elsewhere.
  }
}

const asError = ({ code, message, ...detail }: ErrorObject): SuperfleetError =>
  new SuperfleetError(code, message, detail);

const died = (how: string, words: string): SuperfleetError => {
  const said = words.trim();
  return new SuperfleetError(
    'SF_INTERNAL',
    `the process that makes it ${how}`,
    said === '' ? {} : { got: said },
  );
};
