import { runProcess } from './cli/main.ts';
import { nodeMain } from './cli/run.ts';

await runProcess(nodeMain);
