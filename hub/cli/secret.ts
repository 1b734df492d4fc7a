import type { Readable } from 'node:stream';
import type { Session } from '../../node/cli/session.ts';
import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { secretBytesMax } from '../../protocol/limits.ts';

/** A terminal as the input: what is typed can be kept from the screen. */
export interface Keyboard extends Readable {
  setRawMode(on: boolean): unknown;
}

/** `secret set`: the value from a pipe as it is, or one line typed unseen. */
export async function setSecret(name: string, session: Session): Promise<number> {
  const { voice, terminal } = session;
  let last: number | undefined;
  const upload = (source: AsyncIterable<Uint8Array>): Promise<unknown> =>
    session.client().upload('PUT', `/v1/secrets/${name}`, source, terminal.signal);
  const { stdin } = terminal;
  const typed = isKeyboard(stdin);
  if (typed) voice.note(`the value of ${name}, then Enter; it is not shown:`);
  const value = typed ? [await hiddenLine(stdin)] : stdin;
  const answer = await upload(
    (async function* () {
      for await (const bytes of value as AsyncIterable<Uint8Array>) {
        last = bytes.at(-1) ?? last;
        yield bytes;
      }
    })(),
  );
  if (voice.json) voice.document(answer);
  else voice.out(`secret ${name} is set`);
  if (last === 0x0a)
    voice.note(`note: the value ends with a newline, which is part of it (printf %s leaves it out)`);
  return EXIT.ok;
}

export const isKeyboard = (stdin: Readable): stdin is Keyboard =>
  (stdin as { isTTY?: boolean }).isTTY === true && 'setRawMode' in stdin;

/** One line typed on a terminal and not shown. Ctrl-C gives up (`SF_INTERRUPTED`), Ctrl-D ends it as Enter does. */
export async function hiddenLine(keyboard: Keyboard): Promise<Buffer> {
  keyboard.setRawMode(true);
  const typed: string[] = [];
  const decoder = new TextDecoder();
  try {
    for await (const bytes of keyboard) {
      for (const key of decoder.decode(bytes as Uint8Array, { stream: true })) {
        if (key === '\r' || key === '\n' || key === '\x04') return Buffer.from(typed.join(''));
        if (key === '\x03') throw new SuperfleetError('SF_INTERRUPTED', 'interrupted; nothing was set');
        if (key === '\x7f' || key === '\b') typed.pop();
        else typed.push(key);
      }
      if (typed.length > secretBytesMax) {
        throw new SuperfleetError('SF_USAGE', 'the secret is too long', {
          expected: `at most ${secretBytesMax} bytes`,
        });
      }
    }
    return Buffer.from(typed.join(''));
  } finally {
    keyboard.setRawMode(false);
  }
}
