// limit: 100 s
/** Repairs by models and servers that stumble, or say what is not so: they converge all the same, and what counts is what git finds. */
import { test } from 'uvu';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { converged } from '../../repairs/converged.ts';
import { scriptFor } from '../../repairs/repair.ts';
import { troubled } from '../../repairs/troubled.ts';
import { Workbench } from '../../repairs/workbench.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const server = await new ScriptedOllama(['scripted-coder:7b'], scriptFor(troubled).script).listen();
const workbench = await Workbench.open(async () => [new OllamaBrain({ url: server.url })]);
test.after(async () => {
  await workbench.close();
  await server.close();
});

for (const repair of troubled) {
  it(`${repair.name}: it converges`, async () => converged(repair, await workbench.run(repair)));
}

test.run();
