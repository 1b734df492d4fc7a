/** What crosses between a node and its workers, without either. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BrainError } from '../../../node/brain/types.ts';
import { PrepareFailure } from '../../../node/environment/prepare.ts';
import { Calls, type Served } from '../../../node/workers/calls.ts';
import { FrameReader, frameBytesMax, frameOf } from '../../../node/workers/frames.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

const unreached = (): void => assert.unreachable();
const silent: Served = { ask: async () => null, tell: () => {} };

/** Two sides on a channel of frames, as on a pipe: what one says the other hears a turn later. */
function pair(served: Partial<Served>): { asker: Calls; server: Calls } {
  const to = (side: () => Calls): ((message: unknown) => void) => {
    const reader = new FrameReader();
    return (message) => {
      const frame = frameOf(message);
      queueMicrotask(() => {
        for (const said of reader.push(frame)) side().receive(said);
      });
    };
  };
  const asker: Calls = new Calls(
    to(() => server),
    silent,
  );
  const server: Calls = new Calls(
    to(() => asker),
    { ...silent, ...served },
  );
  return { asker, server };
}

test('messages come whole however their bytes are cut, and bytes as they were', () => {
  const said = [{ type: 'tell', of: 'output', args: [Buffer.from('a log\n')] }, 'second', null];
  const all = Buffer.concat(said.map(frameOf));
  for (const size of [1, 3, 4, 7, all.length]) {
    const reader = new FrameReader();
    const heard: unknown[] = [];
    for (let at = 0; at < all.length; at += size) heard.push(...reader.push(all.subarray(at, at + size)));
    assert.is(heard.length, 3);
    const [first] = (heard[0] as { args: Uint8Array[] }).args;
    assert.is(Buffer.from(first!).toString(), 'a log\n');
    assert.equal(heard.slice(1), ['second', null]);
  }
});

test('a frame that is too large, or holds no value, is refused', () => {
  const head = Buffer.alloc(4);
  head.writeUInt32LE(frameBytesMax + 1);
  assert.throws(
    () => [...new FrameReader().push(head)],
    (error: SuperfleetError) => error.code === 'SF_FRAME',
  );
  const junk = Buffer.from('\x05\0\0\0hello');
  assert.throws(
    () => [...new FrameReader().push(junk)],
    (error: SuperfleetError) => error.code === 'SF_FRAME',
  );
});

test('a question is answered with a value, or with the error that was thrown there', async () => {
  const refused = new PrepareFailure('npm ci', { exitCode: 1, killedBy: null, signal: null }, ['no host']);
  const faults: Record<string, unknown> = {
    full: new SuperfleetError('SF_FULL', 'no room', { expected: 'less', hint: 'delete' }),
    brain: new BrainError('timeout', 'too slow', { begun: true }),
    prepare: refused,
    plain: new TypeError('a defect'),
  };
  const { asker } = pair({
    ask: async (of, args) => {
      if (of === 'sum') return (args as number[]).reduce((a, b) => a + b);
      throw faults[of];
    },
  });
  assert.is(await asker.ask('sum', [1, 2]), 3);
  const thrown = (of: string): Promise<Error> =>
    asker.ask(of, []).then(
      () => new Error('no fault'),
      (e: Error) => e,
    );
  const full = (await thrown('full')) as SuperfleetError;
  assert.equal([full.code, full.hint, full.expected], ['SF_FULL', 'delete', 'less']);
  const brain = (await thrown('brain')) as BrainError;
  assert.ok(brain instanceof BrainError);
  assert.equal([brain.fault, brain.begun], ['timeout', true]);
  const prepare = (await thrown('prepare')) as PrepareFailure;
  assert.ok(prepare instanceof PrepareFailure);
  assert.equal([prepare.exitCode, prepare.message], [1, refused.message]);
  assert.is((await thrown('plain')).message, 'a defect');
});

test('an answer that is no plain value is told as a fault, and the side that made it goes on', async () => {
  const { asker } = pair({ ask: async (of) => (of === 'bad' ? () => 'a function' : 'good') });
  await asker.ask('bad', []).then(unreached, (error: Error) => assert.match(error.message, 'cloned'));
  assert.is(await asker.ask('good', []), 'good');
});

test('who asks no more is told to the other side, with the reason, and hears what became of it', async () => {
  const begun = Promise.withResolvers<void>();
  const { asker } = pair({
    ask: (_of, _args, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        begun.resolve();
      }),
  });
  const stop = new AbortController();
  const asked = asker.ask('wait', [], stop.signal);
  await begun.promise;
  stop.abort(new DOMException('too late', 'TimeoutError'));
  await asked.then(unreached, (error: Error) => assert.is(error.name, 'TimeoutError'));
});

test('where the other side is gone, all that was asked of it rejects, and what it asked for is stopped', async () => {
  const stopped = Promise.withResolvers<unknown>();
  const { asker, server } = pair({
    ask: (_of, _args, signal) =>
      new Promise(() => signal.addEventListener('abort', () => stopped.resolve(signal.reason))),
  });
  const asked = asker.ask('for ever', []);
  asked.catch(() => {});
  await new Promise(setImmediate);
  const gone = new Error('gone');
  asker.close(gone);
  server.close(gone);
  await asked.then(unreached, (error) => assert.is(error, gone));
  assert.is(await stopped.promise, gone);
  await asker.ask('more', []).then(unreached, (error) => assert.is(error, gone));
});

test('an answer whose fault is nonsense is refused, and who asked hears it when the channel is closed for that', async () => {
  const asker = new Calls(() => {}, silent);
  const asked = asker.ask('attempt', []).then(unreached, (error: Error) => error.message);
  for (const fault of [{ kind: 'of another release' }, { kind: 'superfleet' }, {}])
    assert.throws(() => asker.receive({ type: 'answer', id: 1, fault }));
  asker.close(new Error('it was ended'));
  assert.is(await asked, 'it was ended');
});

test('nonsense is refused at once', () => {
  const refuses: Served = {
    ask: () => {
      throw new SuperfleetError('SF_FRAME', 'no such question');
    },
    tell: () => {
      throw new SuperfleetError('SF_FRAME', 'nothing to hear');
    },
  };
  for (const message of [
    null,
    'words',
    {},
    { type: 'ask', id: 'one', of: 'x', args: [] },
    { type: 'ask', id: 1, of: 'x', args: 'none' },
    { type: 'ask', id: 1, of: 'x', args: [] },
    { type: 'tell', of: 'x', args: [] },
    { type: 'answer', id: 1, value: 'nobody asked' },
    { type: 'answer', id: 1, fault: 7 },
    { type: 'shout', id: 1 },
  ]) {
    const calls = new Calls(() => assert.unreachable('nothing is answered'), refuses);
    assert.throws(
      () => calls.receive(message),
      (error: SuperfleetError) => error.code === 'SF_FRAME',
    );
  }
});

test.run();
