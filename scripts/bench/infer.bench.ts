/**
 * A model of another member against asking its server directly: what the mesh adds until the first word, and words a second. Both
 * members and the scripted server of models are in this process, so what the mesh costs either side counts. The server
 * takes no time for the first word, and 1 ms or a little more for each after it, as a fast model would.
 */
import { OllamaBrain } from '../../node/brain/ollama.ts';
import type { Brain } from '../../node/brain/types.ts';
import { borrowing, lending, request } from '../../test/node/infer/lender.ts';
import { Net } from '../../test/node/network/hosts.ts';
import { alternate, type Benchmark, median } from './figures.ts';

const FIRSTS = 200;
const WORDS = 500;
const RUNS = 5;

export const benchmark: Benchmark = async (say) => {
  const net = new Net();
  try {
    const { lender, ollama } = await lending(net, 'lender');
    const mesh = borrowing(await net.member(), [lender]);
    const direct = new OllamaBrain({ url: ollama.url });
    const added: number[] = [];
    const first = await alternate(
      'infer.firstToken',
      'ms',
      RUNS,
      async () => {
        ollama.script = () => [{ do: 'text', text: 'word' }];
        const mine: number[] = [];
        const theirs: number[] = [];
        for (let n = 0; n < FIRSTS; n++) {
          mine.push(await firstMs(mesh));
          theirs.push(await firstMs(direct));
        }
        added.push(median(mine) - median(theirs));
        say(
          `infer: first word after ${median(mine).toFixed(2)} ms, directly ${median(theirs).toFixed(2)} ms`,
        );
        return added.at(-1)!;
      },
      null,
    );
    const rate = async (brain: Brain): Promise<number> => {
      ollama.script = () =>
        Array.from({ length: WORDS }, () => [
          { do: 'text' as const, text: 'word ' },
          { do: 'slow' as const, ms: 1 },
        ]).flat();
      const began = performance.now();
      let words = 0;
      for await (const event of brain.chat(request({ maxTokens: WORDS }), never)) {
        if (event.type === 'text') words += event.text.length / 5;
      }
      return (words / (performance.now() - began)) * 1_000;
    };
    const throughput = await alternate(
      'infer.throughput',
      '/s',
      RUNS,
      () => rate(mesh),
      () => rate(direct),
    );
    return [first, throughput];
  } finally {
    await net.stop();
  }
};

const never = new AbortController().signal;

async function firstMs(brain: Brain): Promise<number> {
  const began = performance.now();
  let ms: number | null = null;
  for await (const event of brain.chat(request(), never))
    if (event.type === 'text') ms ??= performance.now() - began;
  if (ms === null) throw new Error('no word came');
  return ms;
}
