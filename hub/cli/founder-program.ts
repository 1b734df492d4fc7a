import type { FounderProgram } from '../../node/cli/options.ts';

/** The founder for `mesh-node`: loaded only by the machine that is made one, or by root, who may not load it later. */
export const founderProgram: FounderProgram = {
  // As `secretsFolder` and `markFolder` say, without loading what they stand with.
  beside: (dir) => [`${dir}.secrets`, `${dir}.instance`],
  load: async () => (await import('../daemon/start.ts')).runSuccessor,
  estate: async (dir) => (await import('../daemon/estate.ts')).estateOf(dir),
};
