import { runProcess } from '../node/cli/main.ts';
import { hubMain } from './cli/run.ts';

await runProcess(hubMain);
