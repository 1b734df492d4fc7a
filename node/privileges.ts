import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
} from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { SuperfleetError } from '../protocol/errors.ts';
import { holdProgram } from './own-program.ts';

/** The account the node drops to when it exists. */
export const ACCOUNT = 'superfleet';
/** Otherwise this user: no account, no files, and outside the ranges of people, services and containers. */
export const FALLBACK_UID = 64_717;

export interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string | null;
}

export interface DropOptions {
  /** Name, uid or `uid:gid`. @default `superfleet` if there is such an account, else uid 64717 */
  user?: string | null;
  /** Folders that the node writes: made if missing, and given to the user with what root owns in them. */
  own?: string[];
  /**
   * Everything the program loads later. Where only root can read the program, an `import()` after the drop fails,
   * and so would a worker thread: load here what will be needed. Another run of the program: `ownProgram`.
   */
  preload?: (() => Promise<unknown>)[];
  /** Called as root, just before the drop, with the ids it drops to: cgroups are prepared here. */
  prepare?: (account: Account) => void | Promise<void>;
}

/**
 * Started as root: gives the data folder away, loads what will be needed, and becomes an unprivileged user whole and
 * for good (promise 14). Started as anybody else: does nothing, and answers null. Resolves only when the kernel
 * confirms, for each thread, that there is no way back; `SF_NO_SANDBOX` otherwise.
 */
export async function dropPrivileges(options: DropOptions = {}): Promise<Account | null> {
  if (process.getuid?.() !== 0) {
    verifyUnprivileged(null);
    return null;
  }
  const account = resolveAccount(options.user ?? null);
  for (const folder of options.own ?? []) giveFolder(folder, account);
  for (const load of options.preload ?? []) await load();
  await options.prepare?.(account);
  holdProgram(account);
  // What was compiled until now lies in root's own folder, where this process writes no more.
  flushCompileCache();
  becomeUser(account);
  verifyUnprivileged(account);
  for (const folder of options.own ?? []) assertUsable(folder, account);
  return account;
}

/** Who `--user` means. `SF_USAGE` for nobody, and for root by any name. */
export function resolveAccount(user: string | null): Account {
  const account =
    user === null ? (findAccount(ACCOUNT) ?? fallback(FALLBACK_UID, FALLBACK_UID)) : named(user);
  if (account === null) {
    throw new SuperfleetError('SF_USAGE', `there is no user ${user}`, {
      expected: 'a user of this machine, a uid, or uid:gid',
      got: user,
      hint: 'create it with `useradd --system`, or leave --user out',
    });
  }
  if (account.uid === 0 || account.gid === 0) {
    throw new SuperfleetError('SF_USAGE', `--user ${user} is root, and nothing of a task runs as root`, {
      expected: 'an unprivileged user',
      got: `${account.uid}:${account.gid}`,
    });
  }
  return account;
}

function named(user: string): Account | null {
  const [, uid, gid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(user) ?? [];
  if (uid === undefined) return findAccount(user);
  const known = findAccount(uid);
  if (gid === undefined && known !== null) return known;
  return fallback(Number(uid), Number(gid ?? uid));
}

const fallback = (uid: number, gid: number): Account => ({ name: String(uid), uid, gid, home: null });

/** By name or uid, from the machine's account database; `getent` asks the networked ones too. */
function findAccount(key: string): Account | null {
  const local = readFileSync('/etc/passwd', 'utf8').split('\n').map(parseAccount);
  const found = local.find((account) => account?.name === key || String(account?.uid) === key);
  if (found) return found;
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?$/.test(key)) return null;
  const asked = spawnSync('/usr/bin/getent', ['passwd', key], { env: {}, timeout: 10_000, encoding: 'utf8' });
  return asked.status === 0 ? parseAccount(asked.stdout.trim()) : null;
}

function parseAccount(line: string): Account | null {
  const [name, , uid, gid, , home] = line.split(':');
  if (name === undefined || !/^\d+$/.test(uid ?? '') || !/^\d+$/.test(gid ?? '')) return null;
  return { name, uid: Number(uid), gid: Number(gid), home: home ?? null };
}

/** Entries of a data folder; a larger one is not walked as root. */
const ENTRIES_MAX = 5_000_000;

/**
 * A folder that is already the user's is left alone: its contents are not to be trusted. One that is root's is given
 * away with what is root's in it. No link is followed, and a file with a second name is not given: the name may be
 * `/etc/shadow`.
 */
function giveFolder(folder: string, account: Account): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stat = lstatSync(folder);
  if (stat.isSymbolicLink() || !stat.isDirectory()) {
    throw new SuperfleetError('SF_FOLDER', `${folder} is no folder`, {
      expected: 'a folder, and no link to one',
    });
  }
  if (stat.uid === account.uid) return;
  if (stat.uid !== 0 || (stat.mode & 0o022) !== 0) {
    throw new SuperfleetError('SF_FOLDER', `${folder} belongs to, or can be written by, somebody else`, {
      expected: `owned by ${account.name} or by root, writable by its owner only`,
      got: `uid ${stat.uid}, mode ${(stat.mode & 0o777).toString(8)}`,
      hint: 'give it to the user with chown, or use another --dir',
    });
  }
  const waiting = [folder];
  let entries = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const name of readdirSync(next)) {
      const path = join(next, name);
      const inner = lstatSync(path);
      entries += 1;
      if (entries > ENTRIES_MAX) throw new SuperfleetError('SF_FOLDER', `${folder} holds too many files`);
      if (inner.uid !== 0 || (!inner.isDirectory() && inner.nlink > 1)) continue;
      if (inner.isDirectory()) waiting.push(path);
      lchownSync(path, account.uid, account.gid);
    }
  }
  // Last: until now nobody else could put anything in.
  chmodSync(folder, 0o700);
  chownSync(folder, account.uid, account.gid);
}

function becomeUser(account: Account): void {
  process.setgroups?.([]);
  process.setgid?.(account.gid);
  process.setuid?.(account.uid);
  process.umask(0o077);
  // root's home can't be read any more, and programs that look there should not try.
  process.env.HOME = account.home ?? '/nonexistent';
  process.env.USER = account.name;
  process.env.LOGNAME = account.name;
  for (const name of ['SUDO_USER', 'SUDO_UID', 'SUDO_GID', 'SUDO_COMMAND', 'XDG_RUNTIME_DIR'])
    delete process.env[name];
  try {
    accessSync('.', constants.R_OK | constants.X_OK);
  } catch {
    process.chdir('/');
  }
}

/** What must hold of every thread; null for the account: of a process that never was root. */
export function verifyUnprivileged(account: Account | null): void {
  // Where there is no such thing as a user's id there is none to be root by; elsewhere only Linux lists its threads. No
  // task ever runs there: what it keeps from root is the program itself.
  if (process.setuid === undefined) return;
  const threads = process.platform === 'linux' ? readdirSync('/proc/self/task') : [];
  for (const thread of threads) {
    let status: string;
    try {
      status = readFileSync(`/proc/self/task/${thread}/status`, 'latin1');
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') continue; // The thread ended.
      throw thrown;
    }
    const fault = privilegeFault(status, account);
    if (fault !== null) throw stillRoot(`thread ${thread}: ${fault}`);
  }
  for (const [what, regain] of REGAIN) {
    try {
      regain();
    } catch {
      continue; // Refused, as it must be.
    }
    throw stillRoot(`${what} was allowed`);
  }
}

const REGAIN: [string, () => void][] = [
  ['setuid(0)', () => process.setuid?.(0)],
  ['seteuid(0)', () => process.seteuid?.(0)],
  ['setgid(0)', () => process.setgid?.(0)],
  ['setegid(0)', () => process.setegid?.(0)],
  ['setgroups([0])', () => process.setgroups?.([0])],
];

/** Pure: what of a `/proc/…/status` still is a privilege, or null. */
export function privilegeFault(status: string, account: Account | null): string | null {
  const line = (name: string): string =>
    new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim() ?? '';
  const uids = line('Uid').split(/\s+/);
  const gids = line('Gid').split(/\s+/);
  if (uids.length !== 4 || gids.length !== 4) return 'the kernel does not say who this process is';
  if (uids.includes('0')) return `a user id is root’s (${uids.join(' ')})`;
  // A desktop session may lend its users a capability; what matters of those is whether bwrap works with it.
  if (account === null) return null;
  if (uids.some((uid) => uid !== String(account.uid))) return `the user ids differ (${uids.join(' ')})`;
  if (gids.some((gid) => gid !== String(account.gid))) return `the group ids differ (${gids.join(' ')})`;
  if (line('Groups') !== '') return `supplementary groups are left (${line('Groups')})`;
  return capabilityFault(line);
}

function capabilityFault(line: (name: string) => string): string | null {
  for (const name of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb']) {
    if (!/^0+$/.test(line(name))) return `${name} is ${line(name)}`;
  }
  return null;
}

function stillRoot(what: string): SuperfleetError {
  return new SuperfleetError('SF_NO_SANDBOX', `this process could not give up its privileges: ${what}`, {
    expected: 'an unprivileged process, in every thread, for good',
    hint: 'start it with `setpriv --reuid … --regid … --clear-groups --inh-caps=-all`, or as an ordinary user',
  });
}

function assertUsable(folder: string, account: Account): void {
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new SuperfleetError('SF_FOLDER', `${account.name} cannot reach ${folder}`, {
      cause,
      expected: 'a data folder whose every parent the unprivileged user may enter',
      hint: 'use --dir with a folder outside /root, or --user with its owner',
    });
  }
}
