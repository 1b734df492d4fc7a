/**
 * `npm run eval -- --model NAME [--url URL] [--only PART] [--json]`: the repairs of the test suite, pursued by a real model as
 * any goal is, and a table of what became of each. Nothing is scripted, and what a server does not count is left out.
 * Exits 0 whatever the model did, 6 where there is no server that has it, 2 for wrong usage.
 */
import { parseArgs } from 'node:util';
import { OllamaBrain } from '../node/brain/ollama.ts';
import { OpenAIBrain } from '../node/brain/openai.ts';
import type { Brain } from '../node/brain/types.ts';
import { canRun } from '../test/node/attempt/harness.ts';
import { missingFor, type Repair } from '../test/repairs/repair.ts';
import { repairs } from '../test/repairs/repairs.ts';
import { type Repaired, Workbench } from '../test/repairs/workbench.ts';
import { dropRoot } from '../test/unprivileged.ts';

const OLLAMA = 'http://127.0.0.1:11434';
/** A server has this long to list its models. */
const listMs = 5_000;
/** Of one repair: a slow machine writes a few hundred tokens in a minute. */
const repairMs = 15 * 60_000;

interface Row {
  repair: string;
  outcome: string;
  turns: number | null;
  heals: number | null;
  promptTokens: number | null;
  generatedTokens: number | null;
  seconds: number | null;
  detail: string | null;
}

function stop(code: number, line: string): never {
  console.error(`eval: ${line}`);
  process.exit(code);
}

function options(): { model: string; url: string; only: string; json: boolean } {
  const spec = {
    model: { type: 'string' },
    url: { type: 'string', default: OLLAMA },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  } as const;
  try {
    const { values } = parseArgs({ options: spec, strict: true });
    const { model, url, only, json } = values;
    if (model === undefined) throw new Error('expected --model NAME, the model to be tried');
    if (!URL.canParse(url)) throw new Error(`expected an address such as ${OLLAMA} for --url, got ${url}`);
    return { model, url, only, json };
  } catch (error) {
    return stop(2, (error as Error).message);
  }
}

/** The server at this address, as Ollama or as OpenAI's API has it; a text: why there is none that has the model. */
async function brainAt(url: string, model: string): Promise<Brain | string> {
  const why: string[] = [];
  for (const brain of [new OllamaBrain({ url }), new OpenAIBrain({ url })] as Brain[]) {
    try {
      const names = (await brain.models(AbortSignal.timeout(listMs))).map(({ name }) => name);
      if (names.includes(model) || names.includes(`${model}:latest`)) return brain;
      why.push(`${url} offers ${names.length === 0 ? 'no model' : `${names.join(', ')}, not ${model}`}`);
      if (names.length > 0) break;
    } catch (error) {
      why.push((error as Error).message);
    }
  }
  return why.at(-1)!;
}

const rowOf = ({ name }: Repair, { result, receipt, seconds }: Repaired): Row => ({
  repair: name,
  outcome: result.outcome === 'succeeded' ? 'converged' : (result.reason ?? result.outcome),
  turns: receipt?.work?.turns ?? null,
  heals: receipt?.work?.heals ?? null,
  promptTokens: receipt?.work?.promptTokens ?? null,
  generatedTokens: receipt?.work?.generatedTokens ?? null,
  seconds: Math.round(seconds * 10) / 10,
  detail: result.detail,
});

const skipped = ({ name }: Repair, missing: readonly string[]): Row => ({
  repair: name,
  outcome: 'skipped',
  turns: null,
  heals: null,
  promptTokens: null,
  generatedTokens: null,
  seconds: null,
  detail: `no ${missing.join(', ')} under /usr`,
});

const WIDTHS = [24, 11, 5, 5, 8, 9, 7];
const lineOf = (cells: readonly (string | number | null)[]): string =>
  cells
    .map((cell, column) => {
      const text = String(cell ?? '–');
      return column < 2 ? text.padEnd(WIDTHS[column]!) : text.padStart(WIDTHS[column]!);
    })
    .join('  ')
    .trimEnd();

const { model, url, only, json } = options();
const chosen = repairs.filter(({ name }) => name.includes(only));
if (chosen.length === 0)
  stop(2, `no repair has ${only} in its name; there are: ${repairs.map(({ name }) => name).join(', ')}`);
if (canRun !== null) stop(6, canRun);
const brain = await brainAt(url, model);
if (typeof brain === 'string') {
  stop(
    6,
    `${brain}\neval: with a server that has ${model}, it would be given ${chosen.length} small repositories whose check is red, one after the other, and a table would say of each whether it became green, in how many turns, tokens and seconds.\neval: with Ollama: ollama serve, ollama pull ${model}, then this again`,
  );
}

dropRoot();
const workbench = await Workbench.open(async () => [brain]);
const rows: Row[] = [];
const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
if (!json) {
  console.log(`${model} of ${url} (${brain.name})\n`);
  console.log(lineOf(['repair', 'outcome', 'turns', 'heals', 'prompt', 'generated', 'seconds']));
}
try {
  for (const repair of chosen) {
    if (interrupted.signal.aborted) break;
    const missing = missingFor(repair);
    const row =
      missing.length > 0
        ? skipped(repair, missing)
        : rowOf(
            repair,
            await workbench.run({ ...repair, code: {}, timeoutMs: repairMs }, model, interrupted.signal),
          );
    if (interrupted.signal.aborted) break;
    rows.push(row);
    const { repair: name, outcome, turns, heals, promptTokens, generatedTokens, seconds } = row;
    if (!json) console.log(lineOf([name, outcome, turns, heals, promptTokens, generatedTokens, seconds]));
  }
} finally {
  await workbench.close();
}
const tried = rows.filter(({ outcome }) => outcome !== 'skipped');
const converged = tried.filter(({ outcome }) => outcome === 'converged').length;
if (json)
  console.log(
    JSON.stringify({ model, server: url, brain: brain.name, converged, tried: tried.length, repairs: rows }),
  );
else {
  console.log(
    `\n${converged} of ${tried.length} converged${rows.length > tried.length ? `, ${rows.length - tried.length} skipped` : ''}`,
  );
  for (const { repair, outcome, detail } of rows) {
    if (outcome !== 'converged') console.log(`${repair}: ${outcome}: ${detail ?? ''}`);
  }
}
if (interrupted.signal.aborted) process.exitCode = 130;
