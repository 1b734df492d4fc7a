import { type ChildProcess, type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import * as assert from 'uvu/assert';

/** What of a stand-in on a bus is not on this machine; null: all is there. `asks`: the program that asks it. */
export function lacksBus(asks: string): string | null {
  for (const [what, command, args] of [
    ['dbus-daemon', 'dbus-daemon', ['--version']],
    [asks, asks, ['--version']],
    ['python3-dbus', '/usr/bin/python3', ['-c', 'import dbus, gi']],
  ] as const) {
    try {
      execFileSync(command, args, { stdio: 'ignore' });
    } catch {
      return what;
    }
  }
  return null;
}

export type Lines = AsyncIterator<string>;
export const linesOf = ({ stdout }: { stdout: Readable }): Lines =>
  createInterface({ input: stdout })[Symbol.asyncIterator]();

export interface StandIn {
  /** Of its bus. */
  address: string;
  child: ChildProcessByStdio<Writable, Readable, null>;
  /** What it says, line by line, after its first line, `ready`. */
  said: Lines;
}

/** A bus of its own with this Python program on it, which is given its address. What was started is added to `started`. */
export async function standInBus(
  started: ChildProcess[],
  program: string,
  ...more: string[]
): Promise<StandIn> {
  const daemon = spawn('dbus-daemon', ['--session', '--nofork', '--print-address=1'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  started.push(daemon);
  const address = String((await linesOf(daemon).next()).value);
  const child = spawn('/usr/bin/python3', ['-c', program, address, ...more], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  started.push(child);
  const said = linesOf(child);
  assert.is((await said.next()).value, 'ready');
  return { address, child, said };
}

/** Ends all that were started and are not gone, the newest first. */
export async function end(started: ChildProcess[]): Promise<void> {
  for (const child of started.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const gone = once(child, 'close');
    child.kill('SIGTERM');
    await gone;
  }
}
