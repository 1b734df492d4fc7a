import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeDeadFolders } from '../dead-folders.ts';
import { findProgram, noSandbox } from './host.ts';

/** FIFOs made by one call of `mkfifo`: three a run, and a call costs about as much as a run of `true`. */
const BATCH = 12;

const PREFIX = 'superfleet-pipes-';

/**
 * Real pipes for the task's streams. What Node calls a pipe is a socket, and a task that opens `/dev/stdout` or
 * `/dev/stderr` by name, as shell scripts do, gets ENXIO from a socket. The names are gone before a task starts.
 */
export class PipePool {
  #ready: number[] = [];

  /**
   * The writing end for the child (blocking), the reading one for this process (watched by the event loop). With
   * `unbroken` the child's end is its own reader too: its writes succeed even when this process has died.
   */
  open(unbroken = false): { child: number; own: Socket } {
    const keeper = this.#take();
    const path = `/proc/self/fd/${keeper}`;
    let child = -1;
    try {
      // The keeper has both ends open, so neither open waits; each makes a description, and flags, of its own.
      child = openSync(path, unbroken ? constants.O_RDWR : constants.O_WRONLY);
      const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      return { child, own: new Socket({ fd, readable: true, writable: false }) };
    } catch (cause) {
      if (child !== -1) closeSync(child);
      throw cause;
    } finally {
      closeSync(keeper);
    }
  }

  /** The reading end for the child (blocking), the writing one for this process. */
  openInput(): { child: number; own: Socket } {
    const keeper = this.#take();
    const path = `/proc/self/fd/${keeper}`;
    let child = -1;
    try {
      child = openSync(path, constants.O_RDONLY);
      const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      return { child, own: new Socket({ fd, readable: false, writable: true }) };
    } catch (cause) {
      if (child !== -1) closeSync(child);
      throw cause;
    } finally {
      closeSync(keeper);
    }
  }

  #take(): number {
    const ready = this.#ready.pop();
    if (ready !== undefined) return ready;
    const mkfifo = findProgram('mkfifo');
    if (mkfifo === null) throw noSandbox('`mkfifo` is not installed', 'install the package `coreutils`');
    removeDeadFolders(PREFIX);
    const folder = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
    try {
      const names = Array.from({ length: BATCH }, (_, index) => join(folder, String(index)));
      const made = spawnSync(mkfifo, ['-m', '600', ...names], { env: {}, timeout: 5_000 });
      if (made.status !== 0)
        throw noSandbox(`no pipes in ${folder}: ${made.stderr}`, 'look at the temporary folder');
      for (const name of names) this.#ready.push(openSync(name, constants.O_RDWR | constants.O_NONBLOCK));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return this.#ready.pop() as number;
  }

  close(): void {
    for (const fd of this.#ready.splice(0)) closeSync(fd);
  }
}
