/** Run as a process of its own, with few descriptors: says what becomes of a worker that cannot be started for want of them. */
import { closeSync, openSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { SupervisedWorker, WorkerLost } from '../../../node/workers/supervised.ts';

const start = (): SupervisedWorker =>
  new SupervisedWorker(
    { ask: async () => null, tell: () => {} },
    null,
    { pingMs: 1_000, silentMax: 6 },
    () => {},
  );
const open: number[] = [];
try {
  for (;;) open.push(openSync('/dev/null', 'r'));
} catch {
  // There is none left.
}
try {
  start();
  console.log('started');
} catch (error) {
  console.log(error instanceof WorkerLost ? error.message : String(error));
}
// An error that nobody hears would come now.
await setImmediate();
for (const one of open) closeSync(one);
const worker = start();
worker.end('was let go');
await worker.ended;
console.log(worker.lost?.message);
