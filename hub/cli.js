// @ts-check
// JavaScript as it is: for a single file of TypeScript Node would load its compiler first.
import { keepCompiled } from '../node/cli/compile-cache.js';

keepCompiled();
// Loaded only now, so that what is compiled of it is kept.
const [{ runProcess }, { hubMain }] = await Promise.all([
  import('../node/cli/main.ts'),
  import('./cli/run.ts'),
]);
await runProcess(hubMain);
