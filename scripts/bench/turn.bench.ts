/**
 * What a turn of the loop costs beside model and tools: `turn.own`. A conversation of 60 turns with the definitions of the real
 * tools; each answer calls one, whose result of 4,000 characters goes into the conversation, so that room is made again and again
 * in a context of 32,768 tokens. The model is a scripted server with Ollama's API that answers at once, over HTTP and in the same process: what it
 * costs is in the figure, which is so an upper bound.
 */
import { OllamaBrain } from '../../node/brain/ollama.ts';
import { Conversation } from '../../node/worker/conversation.ts';
import { runLoop } from '../../node/worker/loop.ts';
import { Prompts } from '../../node/worker/prompts.ts';
import { TOOLS } from '../../node/worker/tools/toolbox.ts';
import type { Step } from '../../test/model-server/script.ts';
import { ScriptedOllama } from '../../test/model-server/scripted-ollama.ts';
import { alternate, type Benchmark } from './figures.ts';

const TURNS = Number(process.env.BENCH_TURN_TURNS ?? 60);
const RUNS = Number(process.env.BENCH_TURN_RUNS ?? 7);
const MODEL = 'scripted:7b';
const CONTEXT_TOKENS = 32_768;
const RESULT = 'const answer = question + 42; // 40 chars\n'.repeat(96).slice(0, 4_000);

export const benchmark: Benchmark = async (say) => {
  const server = await new ScriptedOllama([MODEL]).listen();
  try {
    const brain = new OllamaBrain({ url: server.url });
    const { text } = await new Prompts(null).instructions({ style: 'full', plans: false }, 'benjamin');
    let made = 0;
    const run = async (): Promise<number> => {
      let answers = 0;
      server.script = (): Step[] => {
        answers += 1;
        if (answers > TURNS) return [{ do: 'call', name: 'finish', arguments: { summary: 'done' } }];
        return [
          { do: 'text', text: `I look at part ${answers} of it.` },
          { do: 'call', name: 'read', arguments: { path: `src/part-${answers}.ts` } },
        ];
      };
      made = 0;
      const began = performance.now();
      const result = await runLoop(
        {
          candidates: [{ brain, model: MODEL, contextTokens: CONTEXT_TOKENS }],
          conversation: new Conversation(text, 'Mend what is red.'),
          hands: {
            definitions: TOOLS.map(({ definition }) => definition),
            call: async ({ name }) =>
              name === 'finish'
                ? {
                    content: 'noted.',
                    failed: false,
                    repeats: 0,
                    ending: { kind: 'finish', summary: 'done', lowConfidence: false },
                  }
                : { content: RESULT, failed: false, repeats: 0 },
          },
          bounds: { turns: TURNS + 1, tokens: 1e12, wallMs: 600_000, answerTokens: 8_192 },
          note: async (line) => {
            if (line.startsWith('made room')) made += 1;
          },
        },
        new AbortController().signal,
      );
      if (result.ending.kind !== 'finish') throw new Error(`the loop ended ${JSON.stringify(result.ending)}`);
      return (performance.now() - began) / result.turns;
    };
    const figure = await alternate('turn.own', 'ms', RUNS, run, null);
    say(`turn: ${TURNS} turns a run, room was made ${made} times in the last`);
    return [figure];
  } finally {
    await server.close();
  }
};
