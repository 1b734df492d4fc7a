import { spawn } from 'node:child_process';
import { type Repair, type Step, typed } from './repair.ts';

/** What came of one repair. */
export interface Applied {
  repair: Repair;
  /** Null: done; otherwise the command that failed, and how. */
  fault: string | null;
}

/**
 * Runs repairs in their order, each to its end; a command that fails ends its repair, not the others. Their output goes
 * to this process's stderr, and where there is a terminal they may ask for a password on it.
 */
export async function applyRepairs(
  repairs: readonly Repair[],
  options: { env: NodeJS.ProcessEnv; signal: AbortSignal; onStep(line: string): void },
): Promise<Applied[]> {
  const applied: Applied[] = [];
  for (const repair of repairs) {
    let fault: string | null = null;
    for (const step of repair.steps) {
      options.signal.throwIfAborted();
      options.onStep(typed(step));
      const said = await runStep(step, options);
      if (said === null || step.mayFail) continue;
      fault = `${step.argv.join(' ')}: ${said}`;
      break;
    }
    applied.push({ repair, fault });
  }
  return applied;
}

/** Null: it ended well. A package manager that was begun is never ended half way: Ctrl-C reaches it by the terminal. */
function runStep({ argv, input }: Step, { env }: { env: NodeJS.ProcessEnv }): Promise<string | null> {
  const [file = '', ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      env: { ...env, DEBIAN_FRONTEND: 'noninteractive', PATH: `${env.PATH ?? ''}:/usr/sbin:/sbin` },
      // What it prints is no result of ours; what `tee` repeats nobody needs.
      stdio: [input === null ? 'inherit' : 'pipe', input === null ? process.stderr : 'ignore', 'inherit'],
    });
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, killed) => resolve(code === 0 ? null : `exit ${code ?? killed}`));
    if (input !== null) {
      child.stdin?.on('error', () => {});
      child.stdin?.end(input);
    }
  });
}
