/**
 * Loaded into a daemon by `--import`: writes each timing mark as a line `task step nanoseconds` to the file that
 * `BENCH_TIMING` names, opened before the daemon gives up root. The clock is the machine's, the same for all processes.
 */
import { subscribe } from 'node:diagnostics_channel';
import { openSync, writeSync } from 'node:fs';
import { TIMING_CHANNEL } from '../../node/timing.ts';

const path = process.env.BENCH_TIMING;
if (path !== undefined) {
  const file = openSync(path, 'a');
  subscribe(TIMING_CHANNEL, (message) => {
    const { task, step } = message as { task: string; step: string };
    writeSync(file, `${task} ${step} ${process.hrtime.bigint()}\n`);
  });
}
