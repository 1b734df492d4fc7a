import type { FounderProgram, Running, StartNodeOptions } from '../cli/options.ts';
import { foresee } from './founder-role.ts';
import { type Machine, openMachine } from './machine.ts';
import { Lifetime } from './process.ts';
import { startMember } from './run-member.ts';
import { stageOf } from './stage.ts';

/**
 * `mesh-node start`: works for the mesh this machine has joined. Where the mesh was handed over to this machine meanwhile,
 * it runs the founder.
 */
export async function startNode(options: StartNodeOptions, program: FounderProgram | null): Promise<Running> {
  const founder = await foresee(program, options.dir);
  const machine = await openMachine({ ...options, create: false, beside: founder.beside });
  return living(machine, async (lifetime) => {
    const stage = stageOf(machine, lifetime, options.port);
    if (machine.config.kind !== 'hub') return startMember(stage, options, founder);
    machine.logger.warn('the mesh was handed over to this machine: it runs the founder');
    return founder.run(stage);
  });
}

/** Starts what lives on this machine; where that fails half way, nothing of it stays open. */
export async function living(
  machine: Machine,
  start: (lifetime: Lifetime) => Promise<Running['ready']>,
): Promise<Running> {
  const lifetime = new Lifetime(machine.logger);
  lifetime.keep(() => machine.close());
  try {
    const ready = await start(lifetime);
    if (lifetime.failure !== null) throw lifetime.failure;
    return { ready, done: lifetime.run() };
  } catch (error) {
    await lifetime.abandon();
    throw error;
  }
}
