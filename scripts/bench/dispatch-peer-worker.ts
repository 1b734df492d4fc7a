/** A worker process of the peer of the benchmark `dispatch`: BullMQ's worker, with a processor that returns at once. */
import { Worker } from 'bullmq';
import { Ends } from './dispatch-ends.ts';

const [queue, port, concurrency] = process.argv.slice(2);
const ends = new Ends();
const worker = new Worker(queue!, async () => ({ exitCode: 0 }), {
  connection: { host: '127.0.0.1', port: Number(port) },
  concurrency: Number(concurrency),
});
// Told when redis has answered that the result is kept, which it does after the sync.
worker.on('completed', (job) => ends.add(Number(job.data.argv[1])));
worker.on('error', (error) => process.send?.({ event: 'failed', message: String(error) }));
await worker.waitUntilReady();
process.send?.({ event: 'ready' });
process.once('message', async () => {
  await worker.close();
  process.disconnect();
});
