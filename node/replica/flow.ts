import { SuperfleetError } from '../../protocol/errors.ts';
import {
  type LogWord,
  logCreditBytes,
  logDataBytesMax,
  logDataHead,
  logWords,
  openLogFrame,
} from '../../protocol/log-sync.ts';
import type { FrameChannel } from '../network/channel.ts';

/** A frame is taken within this. */
const WRITE_MS = 60_000;

/** Bytes that may still be sent to a peer, and who waits for more. */
export interface Flow {
  credit: number;
  wake: () => void;
}

/** Waits until so many bytes may be sent, and takes them from the credit. Rejects with the signal's reason; whoever aborts it wakes the flow. */
export async function creditFor(bytes: number, flow: Flow, signal: AbortSignal): Promise<void> {
  // Asked before each wait: it may have aborted while the bytes were read, and then nothing wakes this.
  for (signal.throwIfAborted(); flow.credit < bytes; signal.throwIfAborted()) {
    await new Promise<void>((resolve) => {
      flow.wake = resolve;
    });
  }
  flow.credit -= bytes;
}

export function granted(flow: Flow, bytes: number): void {
  if (flow.credit + bytes > logCreditBytes) throw outOfTurn('a grant of at most what was sent');
  flow.credit += bytes;
  flow.wake();
}

export const sayWord = (channel: FrameChannel, word: LogWord): Promise<void> =>
  channel.write(logWords(word), AbortSignal.timeout(WRITE_MS));

export async function sendData(channel: FrameChannel, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += logDataBytesMax) {
    const part = bytes.subarray(at, at + logDataBytesMax);
    await channel.write(part, AbortSignal.timeout(WRITE_MS), logDataHead);
  }
}

/**
 * Runs `pour`, whose `send` waits for credit, says the word if there is one, and sends the bytes; then waits until the
 * peer, which may still be writing what came, goes.
 */
export async function flowing(
  channel: FrameChannel,
  stopping: AbortSignal,
  pour: (send: (bytes: Uint8Array, word?: LogWord) => Promise<void>) => Promise<void>,
): Promise<void> {
  const ending = new AbortController();
  const signal = AbortSignal.any([stopping, ending.signal]);
  const flow: Flow = { credit: logCreditBytes, wake: () => {} };
  signal.addEventListener('abort', () => flow.wake(), { once: true });
  const hearing = hearGrants(channel, flow).finally(() => ending.abort(new Error('the peer went')));
  hearing.catch(() => {});
  try {
    await pour(async (bytes, word) => {
      await creditFor(bytes.length, flow, signal);
      if (word !== undefined) await sayWord(channel, word);
      await sendData(channel, bytes);
    });
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  } finally {
    channel.abort(new Error('over'));
    await hearing.catch(() => {});
  }
}

export const outOfTurn = (expected: string): SuperfleetError =>
  new SuperfleetError('SF_FRAME', 'the peer sent a frame of the log out of turn', { expected });

/** Takes grants until the peer closes its side; what it acknowledges here counts nowhere. */
async function hearGrants(channel: FrameChannel, flow: Flow): Promise<void> {
  for (;;) {
    const frame = await channel.read();
    if (frame === null) return;
    const word = openLogFrame(frame);
    if (word.type === 'grant') granted(flow, word.bytes);
    else if (word.type !== 'ack') throw outOfTurn('ack or grant');
  }
}
