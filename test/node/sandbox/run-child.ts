/** A node of its own for tests that kill it or start it in a special way: runs argv[2] (JSON) and passes its output on. */
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { start } from './support.ts';

const argv = JSON.parse(process.argv[2] ?? '[]') as string[];
const task = start(createSandbox(), argv);
console.log('started');
task.stdout.pipe(process.stdout);
task.stderr.pipe(process.stderr);
await task.ended;
