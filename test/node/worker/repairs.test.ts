// limit: 100 s
/**
 * Small repositories whose check is red, and a scripted Ollama server that answers as models do: what can be repaired is, and
 * what cannot ends in a failure that says why.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { converged } from '../../repairs/converged.ts';
import { missingFor, scriptFor } from '../../repairs/repair.ts';
import { repairs } from '../../repairs/repairs.ts';
import { Workbench } from '../../repairs/workbench.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);

const MODEL = 'scripted-coder:7b';
const { script } = scriptFor(repairs);
const server = await new ScriptedOllama([MODEL], script).listen();
const workbench = await Workbench.open(async () => [new OllamaBrain({ url: server.url })]);
test.after(async () => {
  await workbench.close();
  await server.close();
});

test('there are forty repairs and more, none named or asked for as another', () => {
  assert.ok(repairs.length >= 40, `${repairs.length}`);
  assert.is(new Set(repairs.map(({ name }) => name)).size, repairs.length);
  assert.is(new Set(repairs.map(({ goal }) => goal)).size, repairs.length);
});

for (const repair of repairs) {
  const missing = missingFor(repair);
  if (missing.length > 0) console.log(`skipped: ${repair.name}: no ${missing.join(', ')} under /usr`);
  const it = canRun === null && missing.length === 0 ? test : test.skip;
  it(`${repair.name} converges, and git finds changed what was repaired`, async () => {
    converged(repair, await workbench.run(repair));
  });
}

test.run();
