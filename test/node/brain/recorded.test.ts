import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { record, recordedBrain } from '../../../node/brain/recorded.ts';
import type { Brain, ChatEvent, Message } from '../../../node/brain/types.ts';
import type { Script } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { all, fails, never, READ, request, textOf } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';
const RECORDED = `recorded/${MODEL}`;

const inFolder = (name: string, run: (file: string) => Promise<void>): void =>
  test(name, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'superfleet-recorded-'));
    await run(join(folder, 'transcript.json')).finally(() => rm(folder, { recursive: true }));
  });

async function recording(file: string, script: Script, run: (brain: Brain) => Promise<void>): Promise<void> {
  const server = new ScriptedOllama([MODEL], script);
  await server.listen();
  await run(record(new OllamaBrain({ url: server.url }), file)).finally(() => server.close());
}

const first: Message[] = [{ role: 'user', content: 'Fix the sum.' }];
const second: Message[] = [
  ...first,
  {
    role: 'assistant',
    content: 'I look.',
    calls: [{ id: 'call-1', name: 'read', arguments: { path: 'a' }, text: '{"path":"a"}' }],
  },
  { role: 'tool', call: 'call-1', name: 'read', content: 'one' },
];

/** Two turns and a third that breaks off. */
async function session(file: string): Promise<ChatEvent[][]> {
  const answers: ChatEvent[][] = [];
  const script: Script = (_, number) =>
    [
      [
        { do: 'text' as const, text: 'I ' },
        { do: 'text' as const, text: 'look.' },
        { do: 'call' as const, name: 'read', arguments: { path: 'a' } },
      ],
      [{ do: 'text' as const, text: 'Done.' }],
      [{ do: 'text' as const, text: 'So' }, { do: 'disconnect' as const }],
    ][number]!;
  await recording(file, script, async (brain) => {
    answers.push(await all(brain, request({ messages: first, tools: [READ] })));
    answers.push(await all(brain, request({ messages: second, tools: [READ] })));
    await fails(all(brain, request({ messages: first })), 'broken');
  });
  return answers;
}

inFolder('what was recorded is answered again, under a name that says what it is', async (file) => {
  const [one, two] = await session(file);
  const brain = await recordedBrain(file);
  assert.is(brain.name, 'recorded');
  assert.equal(
    (await brain.models(never)).map(({ name }) => name),
    [RECORDED],
  );
  const again = await all(brain, request({ model: RECORDED, messages: first, tools: [READ] }));
  assert.is(textOf(again), textOf(one!));
  assert.equal(again.slice(1), one!.slice(2));
  assert.equal(await all(brain, request({ model: RECORDED, messages: second, tools: [READ] })), two);
  const error = await fails(
    all(brain, request({ model: RECORDED, messages: first })),
    'broken',
    /as recorded/,
  );
  assert.ok(error.begun);
});

inFolder('a turn is told by what it adds, so a file grows with what was said', async (file) => {
  await session(file);
  const { format, turns } = JSON.parse(await readFile(file, 'utf8'));
  assert.is(format, 1);
  assert.equal(
    turns.map(({ keep, add }: { keep: number; add: Message[] }) => [keep, add.length]),
    [
      [0, 1],
      [1, 2],
      [1, 0],
    ],
  );
});

inFolder('any other conversation is refused, with the place where it parts', async (file) => {
  await session(file);
  const brain = await recordedBrain(file);
  const asked = (change: object): Promise<unknown> =>
    all(brain, request({ model: RECORDED, messages: second, tools: [READ], ...change }));
  const other: Message[] = [...second.slice(0, 2), { ...second[2]!, content: 'two' } as Message];
  await fails(asked({ messages: other }), 'model', /no model.*message 3 \(tool\)/);
  await fails(asked({ messages: second.slice(0, 2) }), 'model', /message 3 \(none\)/);
  await fails(asked({ messages: [...second, ...first] }), 'model', /message 4 \(user\)/);
  await fails(asked({ messages: [] }), 'model');
  await fails(asked({ tools: [] }), 'model', /message 2/);
  await fails(asked({ model: MODEL }), 'model', /it has no/);
});

inFolder('answers to the same conversation come in turn, and begin again', async (file) => {
  const script: Script = (_, number) => [{ do: 'text', text: `answer ${number}` }];
  await recording(file, script, async (brain) => {
    for (let time = 0; time < 2; time++) await all(brain, request());
  });
  const brain = await recordedBrain(file);
  const heard: string[] = [];
  for (let time = 0; time < 3; time++) heard.push(textOf(await all(brain, request({ model: RECORDED }))));
  assert.equal(heard, ['answer 0', 'answer 1', 'answer 0']);
});

inFolder('content that is null in a file stands for any', async (file) => {
  await session(file);
  const written = JSON.parse(await readFile(file, 'utf8'));
  written.turns[1].add[1].content = null;
  await writeFile(file, JSON.stringify(written));
  const brain = await recordedBrain(file);
  const other: Message[] = [...second.slice(0, 2), { ...second[2]!, content: 'two' } as Message];
  const events = await all(brain, request({ model: RECORDED, messages: other, tools: [READ] }));
  assert.is(textOf(events), 'Done.');
});

inFolder('an answer that was left or aborted is not kept', async (file) => {
  const script: Script = (_, number) =>
    number === 0 ? [{ do: 'text', text: 'whole' }] : [{ do: 'text', text: 'a' }, { do: 'hang' }];
  await recording(file, script, async (brain) => {
    await all(brain, request());
    for await (const event of brain.chat(request(), never)) if (event.type === 'text') break;
    const stop = new AbortController();
    const run = async (): Promise<void> => {
      for await (const event of brain.chat(request(), stop.signal)) if (event.type === 'text') stop.abort();
    };
    await run().catch(() => undefined);
  });
  assert.is(JSON.parse(await readFile(file, 'utf8')).turns.length, 1);
});

inFolder('what is no transcript is refused with the field', async (file) => {
  const good = { format: 1, about: '', turns: [] };
  for (const [content, said] of [
    ['{', /no JSON/],
    [JSON.stringify({ ...good, format: 2 }), /format/],
    [JSON.stringify({ ...good, more: 1 }), /more/],
    [
      JSON.stringify({
        ...good,
        turns: [{ model: 'gpt', keep: 0, add: [], tools: [], events: [], fault: null }],
      }),
      /turns\.0\.model/,
    ],
    [
      JSON.stringify({
        ...good,
        turns: [{ model: RECORDED, keep: 3, add: [], tools: [], events: [], fault: null }],
      }),
      /keeps more/,
    ],
  ] as const) {
    await writeFile(file, content);
    await fails(recordedBrain(file), 'broken', said);
  }
  await fails(recordedBrain(`${file}.gone`), 'broken', /ENOENT/);
});

test.run();
