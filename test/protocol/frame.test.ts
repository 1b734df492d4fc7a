import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import {
  FrameDecoder,
  frameOf,
  joinMessages,
  messageBytes,
  messageSchema,
  parseFrame,
  withLength,
} from '../../protocol/frame.ts';
import { founderMessage } from '../../protocol/session.ts';

const schema = messageSchema(
  z.discriminatedUnion('type', [
    z.object({ type: z.literal('a'), n: z.int() }),
    z.object({ type: z.literal('b'), text: z.string() }),
  ]),
);

/** The error of a call that must fail, with its code. */
function failure(code: string, call: () => unknown): SuperfleetError {
  try {
    call();
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError);
    assert.is((thrown as SuperfleetError).code, code);
    return thrown as SuperfleetError;
  }
  throw new Error(`expected ${code}, and nothing was thrown`);
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('frames come out as they went in, however the bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 12 }),
      fc.array(fc.nat({ max: 200 }), { maxLength: 40 }),
      (bodies, cuts) => {
        const wire = Buffer.concat(bodies.map(withLength));
        const decoder = new FrameDecoder(400);
        const out: Uint8Array[] = [];
        let at = 0;
        for (const cut of [...cuts, wire.length]) {
          out.push(...decoder.push(wire.subarray(at, at + cut)));
          at = Math.min(wire.length, at + cut);
        }
        out.push(...decoder.push(wire.subarray(at)));
        assert.ok(decoder.atBoundary);
        assert.equal(
          out.map((body) => Buffer.from(body).toString('hex')),
          bodies.map((body) => Buffer.from(body).toString('hex')),
        );
      },
    ),
  );
});

test('a frame that is too large is refused by its length, before its bytes (promise 18)', () => {
  fc.assert(
    fc.property(fc.integer({ min: 101, max: 2 ** 27 }), (length) => {
      const prefix = withLength(new Uint8Array(0)).subarray(0, 0);
      const wire = Buffer.concat([prefix, varint(length)]);
      const error = failure('SF_FRAME', () => new FrameDecoder(100).push(wire));
      assert.match(error.expected ?? '', /at most 100 bytes/);
    }),
  );
  failure('SF_FRAME', () => new FrameDecoder().push(new Uint8Array(8).fill(0xff)));
  failure('SF_FRAME', () => new FrameDecoder().push(new Uint8Array(8).fill(0x80)));
});

function varint(value: number): Buffer {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...out, rest]);
    out.push((rest % 128) | 128);
  }
}

test('garbage makes frames or SF_FRAME, and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (garbage) => {
      try {
        for (const body of new FrameDecoder(300).push(garbage)) parseFrame(body, schema);
      } catch (thrown) {
        assert.instance(thrown, SuperfleetError);
        assert.is((thrown as SuperfleetError).code, 'SF_FRAME');
      }
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.json(), (json) => {
      try {
        parseFrame(bytes(json), schema);
      } catch (thrown) {
        assert.is((thrown as SuperfleetError).code, 'SF_FRAME');
      }
    }),
  );
});

test('a half frame is not a boundary', () => {
  const decoder = new FrameDecoder();
  assert.equal(decoder.push(withLength(bytes('[{}]')).subarray(0, 3)), []);
  assert.not(decoder.atBoundary);
});

test('messages of one frame keep their order and their form', () => {
  const sent = [
    { type: 'a', n: 1 },
    { type: 'b', text: 'ü' },
    { type: 'a', n: 2 },
  ];
  assert.equal(parseFrame(frameOf(...sent), schema), { messages: sent, dropped: 0 });
  assert.equal(parseFrame(joinMessages(sent.map(messageBytes)), schema).messages, sent);
});

test('unknown message types are dropped and counted, unknown fields are dropped', () => {
  const frame = frameOf({ type: 'new' }, { type: 'a', n: 1, later: true } as { type: string }, {
    type: 'other',
  });
  assert.equal(parseFrame(frame, schema), { messages: [{ type: 'a', n: 1 }], dropped: 2 });
});

test('a bad message is SF_FRAME that names what was expected and what came', () => {
  const error = failure('SF_FRAME', () => parseFrame(bytes('[{"type":"a","n":"x"}]'), schema));
  assert.match(error.expected ?? '', /message a at n/);
  assert.match(error.got ?? '', /"n":"x"/);
});

test('what is no array of typed objects is SF_FRAME', () => {
  for (const text of ['', '[]', '{}', 'null', '[1]', '[{}]', '[{"type":1}]', '[{"type":"a"', '\u0000']) {
    failure('SF_FRAME', () => parseFrame(bytes(text), schema));
  }
  failure('SF_FRAME', () => parseFrame(new Uint8Array([0x5b, 0xff, 0xfe, 0x5d]), schema));
  failure('SF_FRAME', () => parseFrame(bytes(`${'['.repeat(100_000)}`), schema));
  failure('SF_FRAME', () => parseFrame(bytes(`${'['.repeat(50_000)}${']'.repeat(50_000)}`), schema));
});

test('more messages than a frame may hold is SF_FRAME', () => {
  const frame = frameOf(...Array.from({ length: 257 }, () => ({ type: 'a', n: 1 })));
  failure('SF_FRAME', () => parseFrame(frame, schema));
});

test('the session schema knows its own types', () => {
  const { types } = messageSchema(founderMessage);
  for (const type of ['welcome', 'assign', 'cancel', 'pause', 'grant', 'goodbye']) assert.ok(types.has(type));
  assert.not(types.has('hello'));
});

test.run();
