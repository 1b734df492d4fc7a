import { keepCompiled } from './cli/compile-cache.ts';

keepCompiled();
// Loaded only now, so that what is compiled of it is kept.
const [{ runProcess }, { nodeMain }] = await Promise.all([import('./cli/main.ts'), import('./cli/run.ts')]);
await runProcess(nodeMain);
