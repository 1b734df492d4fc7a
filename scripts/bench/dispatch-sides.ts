/** The two sides of the benchmark `dispatch`: a mesh of ours, and BullMQ on a redis of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { Mesh } from '../../test/net/mesh.ts';
import type { Ended } from './dispatch-ends.ts';
import { Helper } from './helper.ts';

/** Processes that take jobs, and jobs that each takes at one time: together as many as come at once. */
export const WORKERS = Number(process.env.BENCH_DISPATCH_WORKERS ?? 2);
const SLOTS = 200;
export const CONCURRENCY = SLOTS / WORKERS;

export interface Payload {
  kind: 'command';
  argv: [string, string];
}

export interface Side {
  readonly name: 'ours' | 'peer';
  /** Resolves when all of them are durable. */
  submit(jobs: Payload[]): Promise<void>;
  /** Processes that take jobs. */
  readonly workers: readonly Helper<Ended>[];
  /** The process that keeps the queue. */
  readonly keeper: number;
  close(): Promise<void>;
}

export async function ours(): Promise<Side> {
  const mesh = new Mesh();
  const workers: Helper<Ended>[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.end()));
    await mesh.close();
  };
  try {
    const profile = process.env.BENCH_DISPATCH_PROFILE;
    const { pid: keeper } = await mesh.founder(
      profile === undefined ? {} : { env: { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}` } },
    );
    // The work is the members', and every byte crosses the wire.
    await mesh.json(['node', 'drain', 'hub']);
    await mesh.client.post('/v1/mesh/capacity', { ring: SLOTS });
    const { token } = await mesh.json<{ token: string }>(['invite', '--uses', String(WORKERS)]);
    for (let n = 0; n < WORKERS; n++)
      workers.push(new Helper('dispatch-member.ts', [token, `member-${n}`, CONCURRENCY]));
    await Promise.all(workers.map((worker) => worker.says('ready')));
    const { client } = mesh;
    const submit = async (jobs: Payload[]): Promise<void> => {
      await client.post('/v1/batches', { items: jobs.map((spec) => ({ spec })) });
    };
    return { name: 'ours', submit, workers, keeper, close };
  } catch (error) {
    await close();
    throw error;
  }
}

export async function peer(): Promise<Side> {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-bench-redis-'));
  const workers: Helper<Ended>[] = [];
  const port = await freePort();
  const redis = await startRedis(folder, port);
  const queue = new Queue('bench', { connection: { host: '127.0.0.1', port } });
  const close = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.end()));
    await queue.close();
    const gone = once(redis, 'exit');
    redis.kill('SIGTERM');
    await gone;
    await rm(folder, { recursive: true });
  };
  try {
    await queue.waitUntilReady();
    for (let n = 0; n < WORKERS; n++)
      workers.push(new Helper('dispatch-peer-worker.ts', ['bench', port, CONCURRENCY]));
    await Promise.all(workers.map((worker) => worker.says('ready')));
    const submit = async (jobs: Payload[]): Promise<void> => {
      await queue.addBulk(jobs.map((data) => ({ name: 'task', data })));
    };
    return { name: 'peer', submit, workers, keeper: redis.pid!, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** One that answers only when what it was told is synced. */
async function startRedis(folder: string, port: number): Promise<ChildProcess> {
  const kept = ['--appendonly', 'yes', '--appendfsync', 'always', '--save', '', '--dir', folder];
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', ...kept], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    redis.once('error', (cause) =>
      reject(new Error('no redis-server: apt-get install redis-server, or leave out dispatch', { cause })),
    );
    redis.once('exit', (code) => reject(new Error(`redis-server ended with ${code}`)));
    redis.stdout!.on('data', (bytes: Buffer) => {
      if (String(bytes).includes('Ready to accept connections')) resolve();
    });
  });
  return redis;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
