import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { extname } from 'node:path';
import type { EventBody } from '../../ledger/events.ts';
import type { SnapshotAnswer, SnapshotOrder } from '../../ledger/snapshot-process.ts';
import { ownProgram } from '../../node/own-program.ts';
import { SuperfleetError } from '../../protocol/errors.ts';

/** Of the same kind as this file: sources run as they are, what is published is JavaScript. */
const PROGRAM = new URL(`../../ledger/snapshot-process${extname(import.meta.url)}`, import.meta.url);
/** Last words of a process that died, for its error. */
const wordsMax = 2_000;

/**
 * Makes a snapshot as `makeSnapshot` does, in a process that ends with it, or with this one: neither its reading nor the
 * states it holds stall the caller, and their memory goes with it. It gives way to others at the processor. Rejects with what
 * was thrown there, with `SF_INTERNAL` where the process dies, and with the signal's reason; the file is then there whole or
 * not at all, and the process is gone.
 */
export function makeSnapshotInProcess(
  order: SnapshotOrder,
  signal: AbortSignal,
): Promise<EventBody<'log.snapshot'>> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const { command, args, descriptors } = ownProgram(PROGRAM);
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc', ...descriptors],
      windowsHide: true,
    });
    let answer: SnapshotAnswer | null = null;
    let words = '';
    const abort = (): void => void child.kill('SIGKILL');
    signal.addEventListener('abort', abort);
    const ended = (how: string): void => {
      signal.removeEventListener('abort', abort);
      if (signal.aborted) reject(signal.reason);
      else if (answer === null) reject(died(how, words));
      else if ('body' in answer) resolve(answer.body);
      else {
        const { code, message, ...detail } = answer.error;
        reject(new SuperfleetError(code, message, detail));
      }
    };
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      words = `${words}${text}`.slice(-wordsMax);
    });
    child.on('message', (said) => {
      answer = said as SnapshotAnswer;
    });
    child.on('error', (error) => {
      if (child.pid === undefined) ended(`did not start: ${error.message}`);
    });
    // Nothing of it writes any more.
    child.on('close', (code, killed) => ended(`ended with ${killed ?? `code ${code}`}`));
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

const died = (how: string, words: string): SuperfleetError => {
  const said = words.trim();
  return new SuperfleetError(
    'SF_INTERNAL',
    `the process that makes it ${how}`,
    said === '' ? {} : { got: said },
  );
};
