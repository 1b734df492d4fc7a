// @ts-check
// JavaScript as it is: for a single file of TypeScript Node would load its compiler first.
import { keepCompiled } from './cli/compile-cache.js';

keepCompiled();
// Loaded only now, so that what is compiled of it is kept.
const [{ runProcess }, { nodeMain }] = await Promise.all([import('./cli/main.ts'), import('./cli/run.ts')]);
await runProcess(nodeMain);
