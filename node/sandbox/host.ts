import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { SuperfleetError } from '../../protocol/errors.ts';

const PLACES = ['/usr/bin', '/usr/local/bin', '/bin', '/usr/sbin', '/sbin'];

/** Absolute path of a host program; null where it is not installed. Nobody's PATH is asked. */
export function findProgram(name: string): string | null {
  for (const place of PLACES) {
    try {
      accessSync(`${place}/${name}`, constants.X_OK);
      return `${place}/${name}`;
    } catch {
      // Not here; the next place may have it.
    }
  }
  return null;
}

/** The one error of this room: a machine that cannot keep a task in is a machine that runs none. */
export function noSandbox(message: string, hint: string, cause?: unknown): SuperfleetError {
  return new SuperfleetError('SF_NO_SANDBOX', message, { expected: 'a working sandbox', hint, cause });
}

/** Promise 14: whatever a namespace would map it to, uid 0 outside is uid 0 to the kernel. */
export function assertNotRoot(): void {
  const ids = [process.getuid?.(), process.geteuid?.(), process.getgid?.(), process.getegid?.()];
  if (ids.includes(0)) {
    throw noSandbox(
      'this process has root’s user or group, and nothing of a task runs as root',
      'start the node with --user NAME, or as an ordinary user',
    );
  }
}

const O_CLOEXEC = 0o2000000;

/**
 * Descriptors a child of this process would inherit. Node marks what it opens itself as close-on-exec; what it was
 * started with it marks only as far as the first gap. One that can't be looked at counts as inherited.
 */
export function inheritedDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      if (fd <= 2) return false;
      try {
        const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1');
        return (Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0', 8) & O_CLOEXEC) === 0;
      } catch (thrown) {
        return (thrown as NodeJS.ErrnoException).code !== 'ENOENT';
      }
    });
}

/** Hard limits of this process by their name in `/proc/self/limits`; a child can only be given less. */
export function hardLimit(name: 'Max processes' | 'Max file size' | 'Max open files'): number {
  const line = readFileSync('/proc/self/limits', 'latin1')
    .split('\n')
    .find((text) => text.startsWith(name));
  const hard = line?.slice(name.length).trim().split(/\s+/)[1];
  return hard === undefined || hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard);
}
