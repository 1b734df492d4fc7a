/** A member's models over a real host and a scripted server of models: when their speed is measured, and what is lent. */
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkConfig } from '../../../node/config.ts';
import { MemberModels } from '../../../node/daemon/member-models.ts';
import type { Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { request } from '../infer/lender.ts';
import { type Net, withNet } from '../network/hosts.ts';

/** Smaller than any other that may listen on this machine, in the order in which they are measured. */
const SIZES = [1, 2, 3, 4, 5].map((thousands) => ({
  name: `scripted-sized:${thousands}k`,
  parameters: thousands * 1e3,
}));
const NAMES = SIZES.map(({ name }) => name);
const counted: Step[] = [
  { do: 'text', text: 'so' },
  { do: 'end', counts: { promptTokens: 100, promptMs: 50, generatedTokens: 64, generateMs: 640 } },
];

async function machine(net: Net, { infer = true } = {}) {
  const ollama = await new ScriptedOllama(SIZES, () => counted).listen();
  net.onStop(() => ollama.close());
  const host = await net.member();
  const { registry } = net.registry(host);
  const config = checkConfig({ models: [ollama.url], infer });
  const models = new MemberModels({
    machine: { config, configure: async () => {}, logger: pino({ level: 'silent' }) },
    me: { id: host.peer, name: 'desk' },
    listens: () => host.addresses(),
  });
  net.onStop(() => models.close());
  /** Models asked so far, in that order. */
  const asked = (): string[] => ollama.to('/api/chat').map(({ body }) => (body as { model: string }).model);
  return { ollama, models, registry, asked };
}

/** A real request: whatever was begun before it has reached the server when it is answered. */
async function ask(models: MemberModels, model: string): Promise<void> {
  for await (const _ of models.offered.chat(request({ model }), AbortSignal.timeout(10_000)));
}

/** Resolves when so many models have been measured from here on. */
function measured(models: MemberModels, count: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = count;
  models.changed = async () => {
    left -= 1;
    if (left === 0) resolve();
  };
  return promise;
}

test(
  'the four smallest models are measured once, when the machine is free, and its offer says how fast they were',
  withNet(async (net) => {
    const { models, registry, asked } = await machine(net);
    let free = false;
    const done = measured(models, 4);
    await models.open(registry, () => free);
    await ask(models, NAMES[4]!);
    assert.equal(asked(), NAMES.slice(4), 'its owner is there');
    assert.is(models.lends(NAMES)?.models[0]?.generateTokensPerSecond, null);
    free = true;
    models.measureSpeeds();
    models.measureSpeeds();
    await done;
    assert.equal(asked().slice(1), NAMES.slice(0, 4));
    const lends = models.lends(NAMES);
    assert.equal(
      lends?.models.map((model) => [model.promptTokensPerSecond, model.generateTokensPerSecond]),
      [...Array.from({ length: 4 }, () => [2000, 100]), [null, 100]],
      'the last by a real request, of whose prompt Ollama does not say how much it found in its cache',
    );
    assert.ok(lends?.addresses.every((address) => /^\/ip4\/[\d.]+\/tcp\/\d+$/.test(address)));
    await new Promise((resolve) => setImmediate(resolve));
    models.measureSpeeds();
    await ask(models, NAMES[4]!);
    assert.is(asked().length, 6, 'not again');
  }),
);

test(
  'the owner who comes back ends it at once, and it begins anew when the machine is free again',
  withNet(async (net) => {
    const { models, ollama, registry, asked } = await machine(net);
    ollama.script = () => [{ do: 'hang' }];
    let free = true;
    await models.open(registry, () => free);
    const first = await ollama.request('/api/chat');
    free = false;
    models.drop();
    assert.is(await first.ended, 'left');
    ollama.script = () => counted;
    const done = measured(models, 4);
    free = true;
    models.measureSpeeds();
    await done;
    assert.equal(asked(), [NAMES[0], ...NAMES.slice(0, 4)]);
  }),
);

test(
  'an owner who keeps the models lends none; what others lend is looked for on the LAN only',
  withNet(async (net) => {
    const { models } = await machine(net, { infer: false });
    assert.is(models.lends(NAMES), null);
    assert.is(
      (await models.brains()).some(({ place }) => place === 'mesh'),
      false,
    );
    const { peer } = await net.member();
    const addresses = ['/ip4/8.8.8.8/tcp/1', '/ip4/10.0.0.7/tcp/4701', '/dns4/example.org/tcp/1'];
    models.learn([{ peer, name: 'far', addresses, models: ['m'] }]);
    assert.is((await models.brains()).at(-1)?.place, 'mesh');
    assert.equal(
      models.lenders.map((lender) => lender.addresses),
      [['/ip4/10.0.0.7/tcp/4701']],
    );
  }),
);

test.run();
