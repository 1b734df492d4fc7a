import { accessSync, constants, mkdirSync } from 'node:fs';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import type { FounderProgram, Running } from '../cli/options.ts';
import type { Estate } from '../replica/source.ts';
import type { Machine } from './machine.ts';
import type { Stage } from './stage.ts';
import { nextLogKey } from './succession.ts';

/** How a member's process becomes a founder's. */
export interface Founder {
  /** Folders outside the data folder that root gives to the account it drops to. */
  beside: string[];
  /** Folders outside the data folder that a founder needs. */
  needs: string[];
  run(stage: Stage): Promise<Running['ready']>;
  /** What a former founder's folder still has for the founder of now. */
  estate?(dir: string): Promise<Estate | null>;
}

/** Root loads the founder's program while it still can: where only root can read it nothing is loaded later. */
export async function foresee(program: FounderProgram | null, dir: string): Promise<Founder> {
  const early = program !== null && process.getuid?.() === 0 ? await program.load() : null;
  return {
    beside: process.getuid?.() === 0 ? madeOf(program?.beside(dir) ?? []) : [],
    needs: program?.beside(dir) ?? [],
    ...(program === null ? {} : { estate: (root) => program.estate(root) }),
    run: async (stage) => {
      const run = early ?? (await program?.load());
      if (run !== undefined) return run(stage);
      throw new SuperfleetError('SF_CONFLICT', 'the mesh was handed over to this machine', {
        expected: 'a program that runs the founder',
        hint: 'mesh-hub start',
      });
    },
  };
}

/** Those of the folders that are there or can be made: what a unit has made read-only is no reason not to start. */
export function madeOf(folders: readonly string[]): string[] {
  return folders.filter((folder) => {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      accessSync(folder, constants.W_OK | constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The key with which this machine would sign the log as its founder; null: it could not be one. */
export async function successorKey(machine: Machine, { needs }: Founder): Promise<SigningKey | null> {
  if (madeOf(needs).length === needs.length) return nextLogKey(machine.folder.paths);
  machine.logger.warn(
    `this replica cannot be made the founder: ${needs.join(', ')} cannot be written; as a service, run mesh-node service install again`,
  );
  return null;
}
