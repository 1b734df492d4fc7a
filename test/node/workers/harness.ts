import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { LocalAttemptRunner } from '../../../node/attempt/run.ts';
import type { AttemptHooks } from '../../../node/attempt/types.ts';
import { DiskBlobStore } from '../../../node/blobs/disk.ts';
import { Environments } from '../../../node/environment/environments.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { delegatedCgroups } from '../../../node/sandbox/limits/cgroup.ts';
import { SuspendableSandbox } from '../../../node/sandbox/suspendable.ts';
import type { WorkerOptions } from '../../../node/worker/worker.ts';
import { WorkerPool, type WorkerPoolOptions } from '../../../node/workers/pool.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { executorKey, MESH } from '../attempt/harness.ts';

/** `npm test` builds the program: a worker of the build starts in a fraction of the time. */
function built(): { program?: URL } {
  const { SUPERFLEET_BUILD: name = '' } = process.env;
  const path = join(import.meta.dirname, '../../../.built', name, 'node/workers/attempt-process.js');
  return name === '' || !existsSync(path) ? {} : { program: pathToFileURL(path) };
}

/** A member's runner whose attempts are done by workers. */
export async function openNode(
  folder: string,
  founder: DiskBlobStore,
  more: Partial<WorkerPoolOptions> & { goals?: WorkerOptions } = {},
) {
  await mkdir(folder, { recursive: true });
  const blobs = await DiskBlobStore.open(join(folder, 'blobs'));
  const sandboxOptions = { cgroups: delegatedCgroups() };
  const sandbox = new SuspendableSandbox(createSandbox(sandboxOptions));
  const warnings: string[] = [];
  const workers = new WorkerPool({
    sandbox: () => sandboxOptions,
    cache: LocalAttemptRunner.cacheIn(folder),
    environments: await Environments.open({
      folder: join(folder, 'environments'),
      sandbox,
      hosts: () => [],
      versions: async () => ({ node: process.versions.node }),
    }),
    idleMax: () => 4,
    ...built(),
    warn: (message, { line = '' }) => warnings.push(`${message}: ${line}`),
    ...more,
  });
  const runner = await LocalAttemptRunner.open({
    folder,
    sandbox,
    halts: sandbox,
    blobs,
    ownsBlobs: true,
    mesh: MESH,
    member: { id: executorKey.peer, name: 'spare-1' },
    sign: (statement) => signStatement(statement, executorKey),
    workers,
  });
  return { runner, workers, blobs, warnings, founder };
}

/** What the hooks of one attempt saw; `until` resolves with its output as soon as that holds these words. */
export function watched({ blobs, founder }: Awaited<ReturnType<typeof openNode>>) {
  let output = '';
  let look = (): void => {};
  const seen = { phases: new Set<string>(), started: 0 };
  const hooks: AttemptHooks = {
    started: () => {
      seen.started += 1;
    },
    progress: (phase) => void seen.phases.add(phase),
    output: (bytes) => {
      output += Buffer.from(bytes).toString('utf8');
      look();
    },
    fetch: async (wanted) => {
      for (const blob of wanted) await blobs.put(founder.read(blob));
    },
  };
  const until = (words: string): Promise<string> =>
    new Promise((resolve) => {
      look = () => output.includes(words) && resolve(output);
      look();
    });
  return { hooks, seen, until, output: () => output };
}
