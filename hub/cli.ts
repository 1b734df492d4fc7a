import { keepCompiled } from '../node/cli/compile-cache.ts';

keepCompiled();
// Loaded only now, so that what is compiled of it is kept.
const [{ runProcess }, { hubMain }] = await Promise.all([
  import('../node/cli/main.ts'),
  import('./cli/run.ts'),
]);
await runProcess(hubMain);
