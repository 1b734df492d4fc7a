/** What a node does for the worker of one attempt, and what it takes back from one that is gone. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ResultBlobs } from '../../../node/attempt/result-blobs.ts';
import { MemoryBlobStore } from '../../../node/blobs/memory.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import type { Brain, ChatEvent } from '../../../node/brain/types.ts';
import { RepositoryCache } from '../../../node/git/repository-cache.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import type { Service } from '../../../node/workers/answers.ts';
import { AttemptService, BlobService } from '../../../node/workers/attempt-services.ts';
import { Calls } from '../../../node/workers/calls.ts';
import { ModelService } from '../../../node/workers/model-service.ts';
import { performedOf } from '../../../node/workers/performed.ts';
import { RemoteBlobs, RemoteEnvironments, RemoteTurns } from '../../../node/workers/remote.ts';
import { remoteGoals } from '../../../node/workers/remote-goals.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';

const unreached = (): void => assert.unreachable();
const never = new AbortController().signal;
const isFrame = (error: unknown): boolean => (error as SuperfleetError).code === 'SF_FRAME';
const hooks = { started: () => {}, progress: () => {}, output: () => {}, fetch: async () => {} };

/** The worker's side of a channel to these. */
function workerOf(...services: Service[]): Calls {
  const worker: Calls = new Calls((message) => queueMicrotask(() => node.receive(structuredClone(message))), {
    ask: async () => null,
    tell: () => {},
  });
  const node: Calls = new Calls((message) => queueMicrotask(() => worker.receive(structuredClone(message))), {
    ask: (of, args, signal) => services.find(({ asks }) => asks[of])!.asks[of]!(args, signal),
    tell: (of, args) => services.find(({ tells }) => tells[of])!.tells[of]!(args),
  });
  return worker;
}

async function* pieces(count: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < count; at += 1) yield Buffer.alloc(size, at);
}

test('a worker puts blobs small and large, keeps those of its result, and loses the others with its end', async () => {
  const store = new MemoryBlobStore();
  const blobs = new ResultBlobs(store, true);
  const service = new BlobService(blobs);
  const remote = new RemoteBlobs(workerOf(service));
  const small = await remote.put(Buffer.from('a log'));
  const large = await remote.put(pieces(5, 700_000));
  assert.is(large.bytes, 3_500_000);
  assert.ok(await remote.store.has(large.blob));
  const read: Uint8Array[] = [];
  for await (const chunk of remote.store.read(small.blob)) read.push(chunk);
  assert.is(Buffer.concat(read).toString(), 'a log', 'also where the store has no file of it');
  const broken = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(10);
    throw new Error('the disk broke');
  };
  await remote.put(broken()).then(unreached, (error: Error) => assert.is(error.message, 'the disk broke'));
  assert.ok(service.keep([large.blob]));
  assert.not.ok(service.keep([large.blob]), 'it was held once');
  service.close();
  // What was broken off is a turn later out of the store's hands.
  while ((await store.list()).length > 1) await new Promise(setImmediate);
  assert.equal(await store.list(), [large.blob]);
  assert.not.equal(small.blob, large.blob);
});

test('what comes into the store when its worker is gone does not stay there', async () => {
  const store = new MemoryBlobStore();
  const blobs = new ResultBlobs(store, true);
  const service = new BlobService(blobs);
  const put = service.asks.put!([Buffer.from('late')], never);
  service.close();
  await put;
  await blobs.settled();
  assert.equal(await store.list(), []);
});

test('a worker lets go of nothing that it has not, and says nothing of another form', () => {
  const service = new BlobService(new ResultBlobs(new MemoryBlobStore(), true));
  assert.throws(() => service.tells.release!(['b'.repeat(64)]), isFrame);
  assert.throws(() => service.asks.put!(['text'], never), isFrame);
  assert.throws(() => service.asks.path!(['../../identity.key'], never), isFrame);
  const attempt = new AttemptService(hooks, new RepositoryCache('/nonexistent'));
  assert.throws(() => attempt.tells.progress!(['rest', 1]), isFrame);
  assert.throws(() => attempt.tells.output!(['text']), isFrame);
  assert.throws(() => performedOf({ facts: {}, failure: null, log: null }), isFrame);
});

test('workers take turns at a repository, and one that is gone gives its turn back', async () => {
  const cache = new RepositoryCache('/nonexistent');
  const services = [0, 1].map(() => new AttemptService(hooks, cache));
  const [first, second] = services.map((service) => new RemoteTurns(workerOf(service)));
  const order: string[] = [];
  const begun = Promise.withResolvers<void>();
  void first!.inTurn('repo', () => {
    order.push('first');
    begun.resolve();
    return new Promise<never>(() => {});
  });
  await begun.promise;
  const after = second!.inTurn('repo', async () => void order.push('second'));
  await second!.inTurn('other', async () => void order.push('other'));
  services[0]!.close();
  await after;
  assert.equal(order, ['first', 'other', 'second']);
});

test('what is prepared on for others, when its attempt was stopped, says nothing in the log of the next one there', async () => {
  const asked: number[] = [];
  const node = new Calls(() => {}, { ask: async () => null, tell: () => {} });
  node.ask = async (_of, [at]) => {
    asked.push(at as number);
    return new Promise(() => {});
  };
  const heard: string[] = [];
  const attempt = async (name: string): Promise<RemoteEnvironments> => {
    const environments = new RemoteEnvironments(node, []);
    const say = async (line: string): Promise<void> => void heard.push(`${name}: ${line}`);
    const log = { say, write: async () => {} };
    const recipe = { prepare: ['npm ci'], reads: [], makes: [], network: null, tools: [] };
    const limits = { memoryBytes: 1, processes: 1, diskBytes: 1, wallMs: 1 };
    const request = { checkout: '/', recipe, digest: '0'.repeat(64), allowed: [], limits, log };
    void (await environments.store()).prepare(request, new AbortController().signal);
    return environments;
  };
  await attempt('stopped');
  const next = await attempt('next');
  for (const at of asked) await next.answer('prepareSays', [at, `of ${at}`]);
  assert.equal(heard, [`next: of ${asked[1]}`]);
});

test('models are asked by the node: events as they come, faults as they are, and an answer that nobody reads is stopped', async () => {
  let stopped: unknown = null;
  const brain: Brain = {
    name: 'ollama',
    server: 'http://127.0.0.1:11434',
    place: 'local',
    models: async () => [{ name: 'small', contextTokens: 8_192, tools: true, bytes: 1, parameters: null }],
    async *chat(_request, signal): AsyncGenerator<ChatEvent> {
      yield { type: 'text', text: 'one' };
      yield { type: 'text', text: 'two' };
      await new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          stopped = signal.reason;
          reject(signal.reason);
        });
      });
    },
  };
  const speeds = new Speeds();
  const service = new ModelService({ brains: async () => [brain], speeds, prompts: new Prompts(null) });
  const calls = workerOf(service);
  assert.ok(remoteGoals(calls, { agents: [], mcp: [], hosts: [], runtime: false }));
  assert.equal(await calls.ask('brains', []), [
    { at: 0, name: 'ollama', server: 'http://127.0.0.1:11434', place: 'local' },
  ]);
  const [told] = (await calls.ask('models', [0])) as { model: { name: string }; speed: unknown }[];
  assert.equal([told!.model.name, told!.speed], ['small', null]);
  const request = {
    model: 'small',
    messages: [],
    tools: [],
    format: null,
    maxTokens: 10,
    contextTokens: null,
  };
  const chat = await calls.ask('chat', [0, request]);
  assert.equal(await calls.ask('chatNext', [chat]), { type: 'text', text: 'one' });
  assert.equal(await calls.ask('chatNext', [chat]), { type: 'text', text: 'two' });
  const late = new AbortController();
  const next = calls.ask('chatNext', [chat], late.signal);
  await new Promise(setImmediate);
  late.abort(new DOMException('too slow', 'TimeoutError'));
  await next.then(unreached, (error: Error) => assert.is(error.name, 'TimeoutError'));
  assert.is((stopped as Error).name, 'TimeoutError', 'the server is told why it is left');
  const left = await calls.ask('chat', [0, request]);
  await calls.ask('chatNext', [left]);
  stopped = null;
  const waiting = calls.ask('chatNext', [left]).then(() => calls.ask('chatNext', [left]));
  waiting.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 0));
  service.close();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.ok(stopped instanceof Error);
  await calls
    .ask('chat', [7, request])
    .then(unreached, (error: SuperfleetError) => assert.is(error.code, 'SF_NOT_FOUND'));
});

test.run();
