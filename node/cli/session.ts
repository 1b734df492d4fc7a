import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { Client } from '../api/client.ts';
import type { AsOf } from '../api/objects.ts';
import { dataFolder } from './folder.ts';
import type { GlobalFlags } from './parse.ts';
import { asOfText, painter, shellWord } from './render.ts';
import { type Terminal, Voice } from './terminal.ts';

/** One command under way: where it speaks, where the data folder is, and how to reach the process there. */
export interface Session {
  /** `mesh-hub` or `mesh-node`. */
  bin: 'mesh-hub' | 'mesh-node';
  /** The program as a person types it here: with `--dir` where it was given, so that what is shown can be typed. */
  typed: string;
  voice: Voice;
  terminal: Terminal;
  dir: string;
  /** `onBytes` is told how many bytes came, of answers that are bytes. */
  client(correlation?: string | null, onBytes?: (bytes: number) => void): Client;
}

export function sessionOf(bin: Session['bin'], global: GlobalFlags, terminal: Terminal): Session {
  const dir = dataFolder({
    flag: global.dir,
    env: terminal.env,
    cwd: terminal.cwd,
    home: terminal.env.HOME ?? homedir(),
    uid: process.getuid?.() ?? null,
  });
  const shown =
    global.dir === null && (terminal.env.MESH_HOME ?? '') === '' ? '' : ` --dir ${shellWord(dir)}`;
  return {
    bin,
    typed: global.dir === null ? bin : `${bin} --dir ${shellWord(global.dir)}`,
    voice: new Voice(terminal, global.json),
    terminal,
    dir,
    client: (correlation = null, onBytes) =>
      new Client({ dir, correlation, onBytes, startHint: startHint(bin, dir, shown) }),
  };
}

/** What brings up the process of a data folder; where there is no folder, what makes one. */
function startHint(bin: Session['bin'], dir: string, shown: string): string {
  if (existsSync(dir)) return `${bin} start --detach${shown}`;
  return bin === 'mesh-hub' ? `mesh-hub init${shown}` : `mesh-node join TOKEN --detach${shown}`;
}

export const paintOf = (session: Session) => painter(session.voice.colours);

/**
 * Commands that the founder names, as they are typed here: with the folder where one was given, and on a member those that it
 * has by its own program. What only an operator's machine has stays as it is.
 */
export function typedHere({ bin, typed }: Pick<Session, 'bin' | 'typed'>, commands: string): string {
  const named = bin === 'mesh-hub' ? /\bmesh-hub (?=[a-z])/g : /\bmesh-hub (?=(?:task|receipt|memory) )/g;
  return commands.replace(named, () => `${typed} `);
}

/** An object as the contract has it under `--json`, as text for a person otherwise. */
export function show<T>(
  session: Session,
  value: T,
  text: (value: T, paint: ReturnType<typeof painter>) => string,
): void {
  if (session.voice.json) {
    session.voice.document(value);
    return;
  }
  session.voice.out(text(value, paintOf(session)));
  const { asOf } = (value ?? {}) as { asOf?: AsOf };
  if (asOf !== undefined) session.voice.note(asOfText(asOf, Date.now()));
}

/** How the program's log is written: as asked for, else for a person where one reads it. */
export const logFormatOf = (asked: 'text' | 'json' | null, { voice, terminal }: Session): 'text' | 'json' =>
  asked ?? (voice.json || terminal.stderr.isTTY !== true ? 'json' : 'text');
