import { constants, openSync, statSync } from 'node:fs';
import { dirname, extname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the descriptor of the held folder is in a process that is started with it: after those that every one has. */
const HELD_AT = 4;

/** How to run another program of ours in a process of its own. */
export interface OwnProgram {
  command: string;
  args: string[];
  /** Descriptors to be handed on, from `HELD_AT` on: after stdin, stdout, stderr and a channel. */
  descriptors: number[];
}

/** Descriptors by what they are of: files or folders that were opened as root. Empty where the account can come to all. */
const held = new Map<string, number>();

/**
 * To be called as root, before it is given up: opens the folders of Node and of this program, where the account cannot
 * enter a folder above them. What lies in them must be readable by the account all the same.
 */
export function holdProgram(account: { uid: number; gid: number }): void {
  if (process.platform !== 'linux') return;
  for (const path of [process.execPath, import.meta.filename]) {
    const barred = lastBarred(path, account);
    if (barred === null) continue;
    const [name = ''] = relative(barred, path).split(sep);
    const from = join(barred, name);
    if (!held.has(from)) held.set(from, openSync(from, constants.O_RDONLY));
  }
}

/** The innermost folder above a path that the account cannot enter; null where it can enter all. */
function lastBarred(path: string, { uid, gid }: { uid: number; gid: number }): string | null {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const stat = statSync(folder);
    const bit = stat.uid === uid ? 0o100 : stat.gid === gid ? 0o010 : 0o001;
    if ((stat.mode & bit) === 0) return folder;
    if (folder === dirname(folder)) return null;
  }
}

/** A path as the holder of the descriptor `at` (default: this process) comes to it. */
function heldFor(path: string): { fd: number; under: (at?: number) => string } | null {
  for (const [from, fd] of held) {
    if (path !== from && !path.startsWith(`${from}${sep}`)) continue;
    return { fd, under: (at = fd) => join(`/proc/self/fd/${at}`, relative(from, path)) };
  }
  return null;
}

/**
 * A file of this program, by its path in the sources. What is built lies as the sources do, and this module, wherever it is
 * built into, one folder deep.
 */
export const ownFile = (path: string): URL => new URL(`../${path}`, import.meta.url);

/** A module of this program that is run by itself, by its path without a suffix: sources are TypeScript, what is built is not. */
export const ownModule = (path: string): URL => ownFile(`${path}${extname(import.meta.filename)}`);

/** How to run a module of this program, also after root was given up and where only root can enter its folder. */
export function ownProgram(module: URL): OwnProgram {
  const command = heldFor(process.execPath)?.under() ?? process.execPath;
  const path = fileURLToPath(module);
  const program = heldFor(path);
  if (program === null) return { command, args: [path], descriptors: [] };
  // The names that the links stand for are those that cannot be entered.
  const args = ['--preserve-symlinks', '--preserve-symlinks-main', program.under(HELD_AT)];
  return { command, args, descriptors: [program.fd] };
}

/** A path of this program by which this process can read it, also where only root could enter its folder. */
export const reachableFile = (path: string): string => heldFor(path)?.under() ?? path;
