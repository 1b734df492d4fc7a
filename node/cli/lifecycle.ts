import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { asSuperfleetError, EXIT, isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import type { EnrolledLine, PendingLine, ReadyLine, WaitingLine } from '../api/objects.ts';
import { detachedLogPath, readMark } from '../api/socket.ts';
import { lives, markOf, type ProcessMark } from '../process-mark.ts';
import { saveCompiled } from './compile-cache.js';
import type { Running } from './options.ts';
import { elapsed } from './progress.ts';
import { cell } from './render.ts';
import type { Session } from './session.ts';
import { becomeDaemon } from './terminal.ts';

/** At the next start a log of this size becomes `.1`. */
const logBytesMax = 8 * 1024 * 1024;
/** A process that is to be ready says so within this time; one that waits for approval has longer. */
const readyMs = 120_000;
const goneEveryMs = 25;
/** A process that does not answer on its socket within this time is told by a signal. */
const askMs = 10_000;
/** How much of the end of a log is looked at for the error a process ended with. */
const tailBytes = 64 * 1024;

/** Set for a process in the background: the one that started it has looked at the machine first. */
export const LOOKED = 'SUPERFLEET_LOOKED';

/** Runs a process of ours in the foreground to its end: says the ready line, answers its exit code. */
export async function inForeground(
  session: Session,
  start: () => Promise<Running>,
  onReady: () => void = () => {},
): Promise<number> {
  becomeDaemon();
  // Started as root, the process writes no more there once it has given up its rights.
  saveCompiled();
  const running = await start();
  sayReady(session, running.ready);
  onReady();
  return running.done;
}

export function sayReady({ voice }: Session, ready: ReadyLine): void {
  if (voice.json) {
    voice.document(ready);
    return;
  }
  voice.out(`ready: ${cell(ready.name)} (${cell(ready.id)}) of mesh ${cell(ready.mesh)}`);
  sayRenamed(voice, ready);
  voice.note(`listening on ${cell(placesOf(ready.addresses).join(', ') || 'no address')}`);
  if (ready.work !== undefined) voice.note(cell(`this machine ${ready.work}`));
  if (!ready.online) voice.note('the founder does not answer yet; it is tried again and again');
}

export function sayEnrolled({ voice }: Session, line: EnrolledLine): void {
  if (voice.json) {
    voice.document(line);
    return;
  }
  voice.out(`enrolled: ${cell(line.name)} (${cell(line.id)}) in mesh ${cell(line.mesh)}`);
  sayRenamed(voice, line);
}

function sayRenamed(voice: Session['voice'], { asked, name }: { asked?: string; name: string }): void {
  if (asked === undefined) return;
  voice.note(`the mesh calls this machine ${cell(name)}: ${cell(asked)} is taken, or it replaces one`);
  voice.note(`  to change that, on the founder: mesh-hub node rename ${cell(name)} NAME`);
}

/** Multiaddrs as people know them, `192.168.1.5:4701`; this machine's loopback only where there is nothing else. */
export function placesOf(addresses: string[]): string[] {
  const places = addresses.map((address) => {
    const [, family, host, port] = /^\/ip([46])\/([^/]+)\/tcp\/(\d+)/.exec(address) ?? [];
    return host === undefined ? address : family === '6' ? `[${host}]:${port}` : `${host}:${port}`;
  });
  const outside = places.filter((place) => !/^127\.|^\[::1\]/.test(place));
  return outside.length > 0 ? outside : places;
}

export function sayPending({ voice }: Session, line: PendingLine): void {
  if (voice.json) {
    voice.document(line);
    return;
  }
  voice.out(`code: ${cell(line.code)}`);
  if (line.name !== null) voice.note(`asked mesh ${cell(line.name)} (${cell(line.mesh)}) to be let in`);
  voice.note('on the founder "mesh-hub status" shows the same code; there, within five minutes:');
  voice.note(`  mesh-hub node approve ${cell(line.code)}`);
}

/** Not ready, and it may take long: for whoever started it in the background. Its log says it to people. */
export function sayWaiting({ voice }: Session, why: SuperfleetError): void {
  if (voice.json) voice.document({ event: 'waiting', ...why.toJSON() } satisfies WaitingLine);
}

/**
 * Runs the same command line in the background and waits until it is ready. Its log lies beside the data folder. Where it
 * ends instead, its error is this command's error. Ctrl-C meanwhile ends it again.
 */
export async function inBackground(session: Session, args: readonly string[]): Promise<number> {
  const { terminal, dir } = session;
  const path = detachedLogPath(dir);
  const log = openLog(path);
  const from = fstatSync(log).size;
  const again = [...process.execArgv, process.argv[1] ?? '', ...sameWords(args, dir)];
  const child = spawn(process.execPath, again, {
    cwd: terminal.cwd,
    env: { ...terminal.env, [LOOKED]: '1' } as NodeJS.ProcessEnv,
    detached: true,
    stdio: ['ignore', 'pipe', log],
  });
  const interrupt = (): void => void child.kill('SIGTERM');
  terminal.signal.addEventListener('abort', interrupt, { once: true });
  let patience = setTimeout(interrupt, readyMs);
  const { voice } = session;
  const starting = voice.meter('starting');
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  try {
    for await (const line of createInterface({ input: child.stdout! })) {
      const said = eventOf(line);
      if (said?.event === 'pending') {
        clearTimeout(patience);
        patience = setTimeout(interrupt, Math.max(readyMs, (said.expiresAt ?? 0) - Date.now() + readyMs));
        starting?.end();
        sayPending(session, said);
        const until = said.expiresAt ?? Date.now();
        if (voice.redraws) {
          voice.progress(() => `waiting for approval, ${elapsed(until - Date.now())} left`);
        }
      }
      if (said?.event === 'waiting' && !terminal.signal.aborted) {
        child.stdout!.destroy();
        child.unref();
        throw waitsInBackground(said, child.pid, path);
      }
      // One that was told to end meanwhile may say so all the same.
      if (said?.event !== 'ready' || terminal.signal.aborted) continue;
      child.stdout!.destroy();
      child.unref();
      starting?.end();
      voice.clear();
      sayReady(session, said);
      session.voice.note(`in the background as process ${child.pid}; its log: ${path}`);
      return EXIT.ok;
    }
    const code = await ended;
    terminal.signal.throwIfAborted();
    throw lastError(path, from) ?? fullDisk(path) ?? endedWithout(code, path);
  } finally {
    starting?.end();
    voice.clear();
    clearTimeout(patience);
    terminal.signal.removeEventListener('abort', interrupt);
    closeSync(log);
  }
}

/** The same words for the child, but in the foreground, with JSON, and with the folder said outright. */
export function sameWords(args: readonly string[], dir: string): string[] {
  const kept: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? '';
    if (word === '--dir') at++;
    else if (!OWN.includes(word) && !word.startsWith('--dir=')) kept.push(word);
  }
  return ['--dir', dir, '--json', ...kept];
}
/** Flags that are for the command that was typed, not for the process it begins. */
const OWN = ['--detach', '--json', '--service'];

function openLog(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const found = statSync(path, { throwIfNoEntry: false });
    if (found !== undefined && found.size > logBytesMax) renameSync(path, `${path}.1`);
    // Not through a link: root may write this log beside a folder it has given away.
    return openSync(
      path,
      constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW,
      0o600,
    );
  } catch (cause) {
    const full = (cause as NodeJS.ErrnoException).code === 'ENOSPC';
    throw new SuperfleetError(full ? 'SF_DISK_FULL' : 'SF_FOLDER', `the log ${path} cannot be written`, {
      got: String(cause),
      hint: full ? 'free some space, then start again' : 'see to its owner and its permissions',
      cause,
    });
  }
}

const waitsInBackground = (
  { code, message, hint }: WaitingLine,
  pid: number | undefined,
  path: string,
): SuperfleetError =>
  new SuperfleetError(isErrorCode(code) ? code : 'SF_UNREACHABLE', message, {
    expected: 'a process that is ready',
    got: `process ${pid}, which waits in the background and goes on by itself; its log: ${path}`,
    hint,
  });

function eventOf(line: string): ReadyLine | PendingLine | WaitingLine | null {
  try {
    const value = JSON.parse(line) as { event?: unknown };
    const known = value.event === 'ready' || value.event === 'pending' || value.event === 'waiting';
    return known ? (value as ReadyLine | PendingLine | WaitingLine) : null;
  } catch {
    return null;
  }
}

/** The error a process of ours ended with, from the end of its log. */
function lastError(path: string, from: number): SuperfleetError | null {
  const file = openSync(path, 'r');
  try {
    const start = Math.max(from, fstatSync(file).size - tailBytes);
    const buffer = Buffer.alloc(tailBytes);
    const text = buffer.toString('utf8', 0, readSync(file, buffer, 0, buffer.length, start));
    for (const line of text.split('\n').reverse()) {
      if (!line.startsWith('{"error"')) continue;
      const { code, message, ...detail } = (JSON.parse(line) as { error: Record<string, string | null> })
        .error;
      if (isErrorCode(code)) return new SuperfleetError(code, message ?? '', detail);
    }
  } catch {
    // A log that can't be read says nothing; the caller names the file.
  } finally {
    closeSync(file);
  }
  return null;
}

/** It could not even write what it ended with. Null: there is room. */
function fullDisk(path: string): SuperfleetError | null {
  const { bavail } = statfsSync(dirname(path));
  if (bavail > 0) return null;
  return new SuperfleetError('SF_DISK_FULL', 'the process ended before it was ready, and the disk is full', {
    expected: `room on the disk of ${path}`,
    got: 'none',
    hint: 'free some space, then start again',
  });
}

const endedWithout = (code: number | null, path: string): SuperfleetError =>
  new SuperfleetError('SF_INTERNAL', 'the process ended before it was ready', {
    expected: 'a line saying it is ready',
    got: code === null ? 'it was ended by a signal' : `exit code ${code}`,
    hint: `its log: ${path}`,
  });

/** Stops the process of a data folder; resolves when it is gone. Nothing there: says so, exit 0. */
export async function stopProcess(session: Session, timeoutMs: number): Promise<number> {
  const { voice, dir } = session;
  const mark = await endProcess(session, timeoutMs);
  if (mark === null) {
    voice.note(`nothing runs with the data folder ${dir}`);
    if (voice.json) voice.document({ stopped: false, pid: null });
    return EXIT.ok;
  }
  if (voice.json) voice.document({ stopped: true, pid: mark.pid });
  else voice.note(`stopped process ${mark.pid}`);
  return EXIT.ok;
}

/** Stops the process of a data folder and waits until it is gone; null: none is there. */
export async function endProcess(session: Session, timeoutMs: number): Promise<ProcessMark | null> {
  const mark = await askToStop(session, Math.min(askMs, timeoutMs));
  if (mark !== null) await untilGone(mark, timeoutMs, session.terminal.signal);
  return mark;
}

/** By its socket; where that does not answer but the process lives, by signal. null: there is none. */
async function askToStop(session: Session, waitMs: number): Promise<ProcessMark | null> {
  const marked = readMark(session.dir);
  const alive = marked !== null && lives(marked) ? marked : null;
  try {
    const { pid } = await session.client().post<{ pid: number }>('/v1/process/stop', {}, waitMs);
    // The pid as its own namespace counts it; the mark was written there too.
    return alive ?? markOf(pid);
  } catch (thrown) {
    const { code } = asSuperfleetError(thrown);
    if (code !== 'SF_UNREACHABLE' && code !== 'SF_TIMEOUT') throw thrown;
    if (alive === null) return null;
    process.kill(alive.pid, 'SIGTERM');
    return alive;
  }
}

/** Waits until the very process is gone. */
export async function untilGone(mark: ProcessMark, timeoutMs: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  // There is no event for the end of a process that is not a child; its entry in /proc is cheap to look at.
  while (lives(mark)) {
    if (performance.now() > deadline) {
      throw new SuperfleetError('SF_TIMEOUT', `process ${mark.pid} has not ended`, {
        expected: `its end within ${timeoutMs} ms`,
        got: 'it still runs',
        hint: `wait longer with --timeout, or end it: kill -9 ${mark.pid}`,
      });
    }
    await delay(goneEveryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
