import { open, rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { cell } from './render.ts';
import type { Session } from './session.ts';

/** Writes a result to stdout, or whole into a file that is not there yet; `{output}` is then the document of `--json`. */
export async function writeOutput(
  session: Session,
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  output: string | null,
): Promise<void> {
  if (output === null) {
    for await (const chunk of source) await session.voice.bytes(chunk);
    return;
  }
  const path = resolve(session.terminal.cwd, output);
  const part = `${path}.${process.pid}.part`;
  // Taken first, so that nothing is fetched for a name that is not free.
  const target = await open(path, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'EEXIST') {
      throw new SuperfleetError('SF_EXISTS', `${path} is there already`, {
        expected: 'a name that is free',
        got: path,
        hint: 'remove it, or name another file',
      });
    }
    throw new SuperfleetError('SF_FOLDER', `${path} cannot be written`, {
      got: cause.code ?? cause.message,
      cause,
    });
  });
  await target.close();
  try {
    const file = await open(part, 'wx', 0o600);
    try {
      for await (const chunk of source) await file.write(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch (thrown) {
    await Promise.all([rm(part, { force: true }), rm(path, { force: true })]);
    throw thrown;
  }
  if (session.voice.json) session.voice.document({ output: path });
  else session.voice.note(`written to ${cell(path)}`);
}
