import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { receiptFileBytesMax } from '../../protocol/bundle.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import type { Session } from './session.ts';

/** `receipt verify FILE`: offline, the sentences on stdout, exit 0 or 5. */
export async function verifyReceipt(
  { file, mesh }: { file: string; mesh: string | null },
  { voice, terminal }: Session,
): Promise<number> {
  const verdict = verifyReceiptFile(await readBounded(resolve(terminal.cwd, file)), { mesh });
  if (!voice.json) voice.out(verdict.sentences.join('\n'));
  else {
    const { proved, standing, why, sameOwner, sentences, facts } = verdict;
    voice.document({
      proved,
      standing,
      why,
      mesh: facts?.mesh ?? null,
      task: facts?.receipt.task ?? null,
      receipt: facts?.digest ?? null,
      executor: facts?.executor ?? null,
      verifier: facts?.verifier ?? null,
      sameOwner,
      sentences,
    });
  }
  return verdict.exitCode;
}

async function readBounded(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    throw new SuperfleetError('SF_NOT_FOUND', `the receipt file cannot be read: ${path}`, {
      expected: 'a file written by "receipt show"',
      got: cause.code ?? cause.message,
      cause,
    });
  });
  try {
    // One byte more than can be right, so that a file too large is told from one cut off.
    const buffer = Buffer.alloc(receiptFileBytesMax + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } catch (cause) {
    throw new SuperfleetError('SF_NOT_FOUND', `the receipt file cannot be read: ${path}`, {
      expected: 'a file written by "receipt show"',
      got: String(cause),
      cause,
    });
  } finally {
    await file.close();
  }
}
