import { open } from 'node:fs/promises';
import { SuperfleetError } from '../../protocol/errors.ts';

/** What is read, in the words of the person's errors. */
export interface FileWanted {
  /** "the receipt file" */
  what: string;
  bytesMax: number;
  expected: string;
  hint: string;
}

/** A file's bytes, at most one more than `bytesMax`, so that one too large is told from one cut off. `SF_NOT_FOUND` where it cannot be read. */
export async function readBounded(path: string, wanted: FileWanted): Promise<Uint8Array> {
  const unreadable = (cause: NodeJS.ErrnoException): SuperfleetError =>
    new SuperfleetError('SF_NOT_FOUND', `${wanted.what} cannot be read: ${path}`, {
      expected: wanted.expected,
      got: cause.code ?? cause.message,
      hint: wanted.hint,
      cause,
    });
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    throw unreadable(cause);
  });
  try {
    const buffer = Buffer.alloc(wanted.bytesMax + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } catch (cause) {
    throw unreadable(cause as NodeJS.ErrnoException);
  } finally {
    await file.close();
  }
}
