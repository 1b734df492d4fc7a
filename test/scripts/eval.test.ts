// limit: 90 s
/** `npm run eval`, asked as a person types it; the model is a scripted server. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ScriptedBody } from '../model-server/script.ts';
import { ScriptedOllama } from '../model-server/scripted-ollama.ts';
import { canRun } from '../node/attempt/harness.ts';
import { scriptFor } from '../repairs/repair.ts';
import { repairs } from '../repairs/repairs.ts';

const ROOT = join(import.meta.dirname, '../..');
const MODEL = 'scripted-coder:7b';
const server = await new ScriptedOllama([MODEL]).listen();
test.after(() => server.close());
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

const evaluate = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    execFile(process.execPath, ['scripts/eval.ts', ...args], { cwd: ROOT }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });

it('a table says of each repair whether it converged, and what it took as the server counted', async () => {
  const { script } = scriptFor(repairs);
  // One repair is not reached, and of another the server counts nothing.
  server.script = (body, number) => {
    const told = String(body.messages[1]?.content);
    if (told.includes('sums the wrong column')) return [{ do: 'text', text: 'No.' }];
    const steps = script(body as ScriptedBody, number);
    if (!told.includes('drop lines seen before')) return steps;
    return [...steps, { do: 'end', counts: { promptTokens: null, generatedTokens: null } }];
  };
  const done = await evaluate('--model', MODEL, '--url', server.url, '--only', 'awk-');
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stdout, /^repair +outcome +turns +heals +prompt +generated +seconds$/m);
  assert.match(done.stdout, /^awk-average +converged +4 +1 +\d+ +\d+ +\d+(\.\d)?$/m);
  assert.match(done.stdout, /^awk-duplicates +converged +3 +0 +– +– +\d+(\.\d)?$/m);
  assert.match(done.stdout, /^awk-field +task +3 +0 +\d+ +\d+ +\d+(\.\d)?$/m);
  assert.match(done.stdout, /^5 of 6 converged$/m);
  assert.match(done.stdout, /^awk-field: task: .*\(stalled\)/m);
  server.script = scriptFor(repairs).script;
  const json = await evaluate('--model', MODEL, '--url', server.url, '--only', 'make-tabs', '--json');
  const { converged, tried, repairs: rows } = JSON.parse(json.stdout);
  assert.equal([converged, tried, rows.length, rows[0].repair], [1, 1, 1, 'make-tabs']);
});

it('without a server, or without the model, it says what it would do with one (exit 6)', async () => {
  const without = await evaluate('--model', 'none:1b', '--url', server.url);
  assert.is(without.code, 6, without.stdout);
  assert.match(without.stderr, `offers ${MODEL}, not none:1b`);
  assert.match(without.stderr, `would be given ${repairs.length} small repositories`);
  const gone = await evaluate('--model', MODEL, '--url', 'http://127.0.0.1:9');
  assert.is(gone.code, 6, gone.stdout);
  assert.match(gone.stderr, /cannot be reached[\s\S]*ollama pull/);
});

test('wrong usage is told (exit 2)', async () => {
  for (const args of [
    [],
    ['--model'],
    ['--model', 'x', '--url', 'here'],
    ['--model', 'x', '--only', 'cobol'],
  ]) {
    const done = await evaluate(...args);
    assert.is(done.code, 2, `${args}: ${done.stderr}`);
    assert.match(done.stderr, /^eval: /);
  }
});

test.run();
