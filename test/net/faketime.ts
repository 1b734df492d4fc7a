import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** libfaketime for programs with threads; undefined where it is not installed. */
export const faketime: string | undefined = ['/usr/lib', '/usr/lib64']
  .filter((folder) => existsSync(folder))
  .flatMap((folder) => [folder, ...readdirSync(folder).map((name) => join(folder, name))])
  .map((folder) => join(folder, 'faketime/libfaketimeMT.so.1'))
  .find((path) => existsSync(path));

/** Pids that are given out again must not find what somebody who is gone left behind. */
const TRIES = 50;

/** What processes need in their environment beside the time that they are to have. */
export interface FakeTime {
  env: NodeJS.ProcessEnv;
  /** When they have ended. */
  close(): Promise<void>;
}

/**
 * Wall clocks by libfaketime; monotonic ones stay the system's. Each process that is given a time makes a semaphore and shared memory
 * that are named by its pid, which its children open, and which stay where it is killed. A child of another user cannot open them, and ends
 * where those of its own pid are there already. So all of them share one pair here, that everybody may open, and that goes with `close`.
 */
export async function fakeTime(): Promise<FakeTime> {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const began = Date.now();
    const holder = spawn('cat', {
      stdio: ['pipe', 'pipe', 'ignore'],
      env: { PATH: process.env.PATH, LD_PRELOAD: faketime, FAKETIME: '+0' },
    });
    const { pid } = holder;
    const ended = once(holder, 'exit');
    const close = async (): Promise<void> => {
      // It takes them away when it ends by itself.
      holder.stdin.end();
      await ended;
    };
    holder.stdin.on('error', () => {});
    holder.stdin.write('.');
    await Promise.race([once(holder.stdout, 'data'), ended]);
    const names = [`sem.faketime_sem_${pid}`, `faketime_shm_${pid}`].map((name) => join('/dev/shm', name));
    const fresh = names.every(
      (path) => (statSync(path, { throwIfNoEntry: false })?.ctimeMs ?? 0) > began - 100,
    );
    if (!fresh) {
      await close();
      continue;
    }
    for (const path of names) chmodSync(path, 0o666);
    const env = {
      LD_PRELOAD: faketime,
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      FAKETIME_SHARED: `/faketime_sem_${pid} /faketime_shm_${pid}`,
    };
    return { env, close };
  }
  throw new Error(
    `expected libfaketime to make its semaphore and memory in /dev/shm; it has not in ${TRIES} tries`,
  );
}
