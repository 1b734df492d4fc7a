/** One machine with a worker, on which repairs are run one after the other: real git, the real sandbox, any server of models. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Speeds } from '../../node/brain/speed.ts';
import type { Brain } from '../../node/brain/types.ts';
import { Prompts } from '../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../node/worker/worker.ts';
import { acceptReceipt } from '../../protocol/acceptance.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { AttemptResult } from '../../protocol/session.ts';
import { bytesOf, executorKey, MESH, Member, World } from '../node/attempt/harness.ts';
import type { Repair } from './repair.ts';

/** What became of a repair. */
export interface Repaired {
  result: AttemptResult;
  receipt: Receipt | null;
  log: string;
  /** Of the branch against the base, as `M\tpath` lines by git; empty where nothing came back. */
  changed: string[];
  seconds: number;
}

export class Workbench {
  readonly #world: World;
  readonly member: Member;

  private constructor(world: World, member: Member) {
    this.#world = world;
    this.member = member;
  }

  /** `wait`: as of the worker. */
  static async open(
    brains: () => Promise<readonly Brain[]>,
    wait?: (ms: number) => Promise<unknown>,
  ): Promise<Workbench> {
    const world = await World.make();
    const worker = new ConvergenceWorker({
      brains,
      speeds: new Speeds(),
      prompts: new Prompts(null),
      ...(wait === undefined ? {} : { wait }),
    });
    const folder = join(world.folder, 'member');
    return new Workbench(world, await Member.open(folder, world.founder, 'spare-1', executorKey, worker));
  }

  /** `model`: the only one to be asked; null: any. */
  async run(
    repair: Omit<Repair, 'answers' | 'changed'>,
    model: string | null = null,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Repaired> {
    const repository = this.#world.repository(repair.name);
    const base = await repository.commit(repair.files);
    const assignment = await this.#world.assignment(
      {
        kind: 'code',
        code: { goal: repair.goal, ...repair.code },
        checks: [repair.check],
        checkFiles: repair.checkFiles ?? [],
        ...(model === null ? {} : { model }),
        ...(repair.timeoutMs === undefined ? {} : { timeoutMs: repair.timeoutMs }),
      },
      { repository, base },
    );
    const began = performance.now();
    const { result, log } = await this.member.run(assignment, signal);
    const seconds = (performance.now() - began) / 1000;
    const receipt =
      result.envelope === null
        ? null
        : acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result }).facts;
    let changed: string[] = [];
    if (result.bundle !== null) {
      const bundle = join(this.#world.folder, `${repair.name}.bundle`);
      await writeFile(bundle, await bytesOf(this.member.blobs, result.bundle));
      const branch = `refs/heads/mesh/${assignment.task}`;
      repository.git('fetch', '-q', bundle, `${branch}:${branch}`);
      const diff = repository.git('diff', '--no-renames', '--name-status', base, branch);
      changed = diff.split('\n').filter((line) => line !== '');
    }
    return { result, receipt, log, changed, seconds };
  }

  async close(): Promise<void> {
    await this.member.runner.close();
    await this.#world.remove();
  }
}
