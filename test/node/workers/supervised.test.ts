import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SupervisedWorker, type WorkerLost } from '../../../node/workers/supervised.ts';

const LIMITS = { pingMs: 1_000, silentMax: 6 };

test('one that was ended is not used again, though its process may still be there', async () => {
  const worker = new SupervisedWorker({ ask: async () => null, tell: () => {} }, null, LIMITS, () => {});
  assert.ok(worker.usable);
  worker.end('was let go');
  assert.equal([worker.usable, worker.lost], [false, null]);
  await worker.ended;
  assert.is((worker.lost as WorkerLost | null)?.message, 'was let go');
  assert.not.ok(worker.usable);
});

test('a worker has nothing of the environment of its node but what it needs', async () => {
  if (process.platform !== 'linux') return console.log('skipped: it needs /proc');
  process.env.SF_TEST_CANARY = 'canary-of-the-node';
  try {
    const worker = new SupervisedWorker({ ask: async () => null, tell: () => {} }, null, LIMITS, () => {});
    const environment = readFileSync(`/proc/${worker.pid}/environ`, 'utf8');
    worker.end('was let go');
    await worker.ended;
    assert.match(environment, /(^|\0)PATH=/);
    assert.not.match(environment, 'canary');
  } finally {
    delete process.env.SF_TEST_CANARY;
  }
});

test('where a node has no descriptor left, it hears that a worker cannot be started, and goes on', () => {
  const program = join(import.meta.dirname, 'no-descriptors.ts');
  const words = 'ulimit -n 100 && exec "$@"';
  const said = execFileSync('sh', ['-c', words, 'sh', process.execPath, program], { encoding: 'utf8' });
  assert.match(said.split('\n')[0]!, /^could not be started: .* open files/);
  assert.is(said.split('\n')[1], 'was let go');
});

test.run();
