/** A node that is killed by its test: argv: the folder and an assignment as JSON. Says the pid of its worker, and what the task prints. */
import { join } from 'node:path';
import { DiskBlobStore } from '../../../node/blobs/disk.ts';
import { openNode, watched } from './harness.ts';

const [folder = '', assignment = ''] = process.argv.slice(2);
const node = await openNode(join(folder, 'killed'), await DiskBlobStore.open(join(folder, 'unused')));
const { hooks, until } = watched(node);
void node.runner.run(JSON.parse(assignment), hooks, new AbortController().signal);
await until('\nready\n');
process.stdout.write(`${node.workers.pids.join(' ')}\n`);
