import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '../../node/api/client.ts';
import type { TaskDetail } from '../../node/api/objects.ts';
import { Arrival } from '../../node/submit/arrival.ts';
import type { Given } from '../../node/submit/quarantine.ts';
import { openRepository } from '../../node/submit/repository.ts';
import { submit } from '../../node/submit/submit.ts';
import { TIMING_CHANNEL } from '../../node/timing.ts';
import { Mesh, ok } from '../../test/net/mesh.ts';

/** Files of the repository: a small project. */
const FILES = 300;

/** A repository of a few hundred source files in two dozen folders. */
export async function makeRepository(folder: string): Promise<void> {
  for (let n = 0; n < FILES; n++) {
    const place = join(folder, `src/part-${n % 24}`);
    mkdirSync(place, { recursive: true });
    const lines = Array.from(
      { length: 60 },
      (_, line) => `export const value${line} = ${n * 1000 + line};\n`,
    );
    writeFileSync(join(place, `file-${n}.ts`), lines.join(''));
  }
  await ok(['git', 'init', '-q', '-b', 'main'], { cwd: folder });
  await commit(folder, 'base');
}

/** A change of one file as a commit: what a person does between two tasks. Answers the commit. */
export async function commit(folder: string, words: string): Promise<string> {
  writeFileSync(join(folder, 'NOTES'), `${words}\n`);
  await ok(['git', 'add', '.'], { cwd: folder });
  const who = ['-c', 'user.name=Bench', '-c', 'user.email=bench@example.invalid'];
  await ok(['git', ...who, '-c', 'gc.auto=0', 'commit', '-qm', words], { cwd: folder });
  return (await ok(['git', 'rev-parse', 'HEAD'], { cwd: folder })).trim();
}

/** Moments of one task in this process, by name: nanoseconds of the machine's monotonic clock. */
export type Moments = Map<string, bigint>;

export interface OurRun {
  ms: number;
  task: TaskDetail;
  moments: Moments;
}

/** A founder that takes no work itself and two members, as processes started by the launchers. */
export class OurMesh {
  readonly mesh = new Mesh();
  readonly timing: string;

  constructor() {
    this.timing = join(this.mesh.home, 'timing');
  }

  async start(): Promise<void> {
    const preload = join(import.meta.dirname, 'timing-preload.ts');
    const env = {
      NODE_OPTIONS: `--import=${preload} ${process.env.BENCH_NODE_OPTIONS ?? ''}`,
      BENCH_TIMING: this.timing,
    };
    await this.mesh.founder({ env });
    await this.mesh.member('one', { env });
    await this.mesh.member('two', { env });
    // Executor and verifier are then always other machines than the founder's, and every byte crosses the wire.
    await this.mesh.json(['node', 'drain', 'hub']);
  }

  /** Submits as `mesh-hub task run --wait` does, with its library, in this process. */
  async run(folder: string, argv: string[], check: string): Promise<OurRun> {
    const moments: Moments = new Map();
    const listen = (message: unknown): void => at((message as { step: string }).step);
    const at = (name: string): void => void moments.set(name, process.hrtime.bigint());
    subscribe(TIMING_CHANNEL, listen);
    const client = new Client({ dir: this.mesh.dir('hub'), startHint: 'the bench starts it' });
    const signal = AbortSignal.timeout(60_000);
    const surroundings = { cwd: folder, env: process.env, signal };
    at('began');
    const repository = await openRepository(null, surroundings);
    at('opened');
    const spec = { kind: 'command' as const, argv, checks: [check] };
    const made = await submit(repository, 'HEAD', spec, { client, env: process.env, signal });
    at('acknowledged');
    using arrival = new Arrival(repository, { client, env: process.env, signal });
    let task: TaskDetail | null = null;
    for await (const now of client.lines<TaskDetail>('GET', `/v1/tasks/${made.id}/watch`, signal)) {
      task = now;
      if (now.state === 'executed') arrival.expect(givenOf(now));
    }
    at('told');
    if (task?.state !== 'delivered' || !task.verified)
      throw new Error(`the task was to be delivered and verified: ${JSON.stringify(task)}`);
    await arrival.place(givenOf(task), false);
    at('placed');
    unsubscribe(TIMING_CHANNEL, listen);
    return { ms: Number(moments.get('placed')! - moments.get('began')!) / 1e6, task, moments };
  }

  /** Marks of the daemons about one task, in order. */
  marks(task: string): { step: string; at: bigint }[] {
    return readFileSync(this.timing, 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .filter(([of]) => of === task)
      .map(([, step, at]) => ({ step: step!, at: BigInt(at!) }))
      .sort((a, b) => Number(a.at - b.at));
  }

  /** Resolves when members have tidied up behind their attempts, so that nobody else's run pays for it. */
  async settled(): Promise<void> {
    const busy = (): boolean =>
      ['one', 'two'].some((name) => {
        const attempts = join(this.mesh.dir(name), 'attempts');
        return readdirSync(attempts).some((attempt) => existsSync(join(attempts, attempt, 'work')));
      });
    for (const deadline = Date.now() + 10_000; busy() && Date.now() < deadline; ) await delay(20);
  }

  close(): Promise<void> {
    return this.mesh.close();
  }
}

function givenOf({ id, base, commit, bundle }: TaskDetail): Given {
  if (commit === null || bundle === null) throw new Error(`task ${id} gave no commit`);
  return { task: id, base, commit, bundle };
}
