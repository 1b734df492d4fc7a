// @ts-check
// JavaScript as it is: for a single file of TypeScript Node would load its compiler first.
import { keepCompiled } from '../node/cli/compile-cache.js';

keepCompiled();
// Loaded only now, so that what is compiled of it is kept.
const [{ runProcess }, { nodeMain }, { founderProgram }] = await Promise.all([
  import('../node/cli/main.ts'),
  import('../node/cli/run.ts'),
  import('./cli/founder-program.ts'),
]);
// It stands here, and not with the node, because a member may be made the founder.
await runProcess((args, terminal) => nodeMain(args, terminal, founderProgram));
