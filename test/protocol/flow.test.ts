import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type FlowLimits, FlowReceiver, FlowSender, type Lane, shares } from '../../protocol/flow.ts';
import { messageBytes, parseUnchecked } from '../../protocol/frame.ts';

const limits: FlowLimits = {
  creditBytes: 4096,
  reserveBytes: 512,
  frameBytesMax: 1024,
  frameMessagesMax: 8,
  queueBytesMax: 1 << 20,
};

interface Sent {
  type: string;
  lane: Lane;
  n: number;
}

/** One end of a stream: what it sends, what came, and what of that is consumed. */
class End {
  readonly sender = new FlowSender(limits);
  readonly receiver = new FlowReceiver(limits);
  readonly inbox: Record<Lane, { sent: Sent; cost: number }[]> = { free: [], urgent: [], normal: [] };
  readonly got: Record<Lane, number[]> = { free: [], urgent: [], normal: [] };
  #n = 0;

  push(lane: Lane, size: number): void {
    const message = { type: lane, lane, n: this.#n++, pad: 'x'.repeat(size) };
    this.sender.push(messageBytes(message), lane);
  }

  /** Everything credit allows goes to the other end; the answer is the bytes that cost credit. */
  flush(to: End): number {
    let spent = 0;
    for (let frame = this.sender.next(); frame !== null; frame = this.sender.next()) {
      assert.ok(frame.byteLength <= limits.frameBytesMax);
      const messages = parseUnchecked(frame) as unknown as (Sent & { bytes: number })[];
      assert.ok(messages.length <= limits.frameMessagesMax);
      const lanes = new Set(messages.map(({ lane }) => lane ?? 'free'));
      assert.is(lanes.size, 1, 'a frame is of one lane');
      if (lanes.has('free')) {
        for (const message of messages) if (message.type === 'grant') to.sender.granted(message.bytes);
        continue;
      }
      spent += frame.byteLength;
      to.receiver.received(frame.byteLength);
      const costs = shares(frame.byteLength, messages.length);
      for (const [at, sent] of messages.entries()) to.inbox[sent.lane].push({ sent, cost: costs[at]! });
    }
    return spent;
  }

  consume(lane: Lane): boolean {
    const item = this.inbox[lane].shift();
    if (item === undefined) return false;
    this.got[lane].push(item.sent.n);
    const grant = this.receiver.consumed(item.cost);
    if (grant > 0)
      this.sender.push(messageBytes({ type: 'grant', bytes: grant } as { type: string }), 'free');
    return true;
  }
}

/** What a run does next, on one side or the other. */
const step = fc.record({
  side: fc.boolean(),
  act: fc.oneof(
    fc.record({
      do: fc.constant('push' as const),
      lane: fc.constantFrom<Lane>('urgent', 'normal'),
      size: fc.nat({ max: 180 }),
    }),
    fc.record({
      do: fc.constant('push' as const),
      lane: fc.constant<Lane>('normal'),
      size: fc.nat({ max: 900 }),
    }),
    fc.record({ do: fc.constant('flush' as const) }),
    fc.record({ do: fc.constant('consume' as const), lane: fc.constantFrom<Lane>('urgent', 'normal') }),
  ),
});

test('no run exceeds the credit, order is kept in a lane, and everything arrives (promise 18)', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const [a, b] = [new End(), new End()];
      const pushed = new Map<End, Record<Lane, number[]>>([
        [a, { free: [], urgent: [], normal: [] }],
        [b, { free: [], urgent: [], normal: [] }],
      ]);
      const counters = new Map([
        [a, 0],
        [b, 0],
      ]);
      for (const { side, act } of steps) {
        const [me, other] = side ? [a, b] : [b, a];
        if (act.do === 'push') {
          const n = counters.get(me)!;
          counters.set(me, n + 1);
          pushed.get(me)![act.lane].push(n);
          me.push(act.lane, act.size);
        } else if (act.do === 'flush') me.flush(other);
        else me.consume(act.lane);
        for (const end of [a, b]) {
          assert.ok(end.sender.credit >= 0);
          assert.ok(end.receiver.unconsumed <= limits.creditBytes);
        }
      }
      for (let round = 0; round < 1000 && moved(a, b); round++);
      for (const [from, to] of [[a, b] as const, [b, a] as const]) {
        for (const lane of ['urgent', 'normal'] as const) {
          assert.equal(to.got[lane], pushed.get(from)![lane], `${lane} messages arrive, in order`);
        }
      }
    }),
    { numRuns: 500 },
  );
});

/** One round in which both sides send what they can and consume one of each lane. */
function moved(a: End, b: End): boolean {
  a.flush(b);
  b.flush(a);
  const results = [a, b].flatMap((end) => [end.consume('urgent'), end.consume('normal')]);
  a.flush(b);
  b.flush(a);
  return results.includes(true) || a.sender.queuedBytes > 0 || b.sender.queuedBytes > 0;
}

test('urgent messages pass while both consumers of normal ones stand still and every queue is full', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 200 }), { minLength: 1, maxLength: 200 }), (sizes) => {
      const [a, b] = [new End(), new End()];
      for (const end of [a, b]) for (let n = 0; n < 200; n++) end.push('normal', 800);
      a.flush(b);
      b.flush(a);
      assert.ok(a.sender.credit < limits.reserveBytes + 900 && a.sender.queuedBytes > 0);
      for (const size of sizes) {
        // At most half the reserve, which is what is promised.
        a.push('urgent', size);
        b.push('urgent', size);
        a.flush(b);
        b.flush(a);
        assert.ok(b.consume('urgent') && a.consume('urgent'), 'it came at once');
        // The grants that consuming earned.
        a.flush(b);
        b.flush(a);
      }
    }),
  );
});

test('urgent messages go before normal ones that wait', () => {
  const [a, b] = [new End(), new End()];
  for (let n = 0; n < 5; n++) a.push('normal', 100);
  a.push('urgent', 10);
  const first = parseUnchecked(a.sender.next()!);
  assert.is(first[0]?.lane, 'urgent');
  assert.ok(a.flush(b) > 0);
});

test('a large urgent message, such as a first hello, goes alone in a frame of its own', () => {
  const sender = new FlowSender(limits);
  sender.push(messageBytes({ type: 'x'.repeat(900) }), 'urgent');
  sender.push(messageBytes({ type: 'y' }), 'urgent');
  assert.is(parseUncheckedTypes(sender.next()!).length, 1);
  assert.equal(parseUncheckedTypes(sender.next()!), ['y']);
});

const parseUncheckedTypes = (frame: Uint8Array): string[] =>
  (JSON.parse(new TextDecoder().decode(frame)) as { type: string }[]).map(({ type }) => type);

test('a full queue takes nothing more, and says so (promise 18)', () => {
  const sender = new FlowSender({ ...limits, queueBytesMax: 2000 });
  let taken = 0;
  while (sender.push(new Uint8Array(100), 'normal')) taken += 1;
  assert.is(taken, 20);
  assert.is(sender.queuedBytes, 2000);
  sender.clear();
  assert.is(sender.queuedBytes, 0);
});

test('a message that fits no frame is refused, not queued', () => {
  assert.throws(
    () => new FlowSender(limits).push(new Uint8Array(1023), 'normal'),
    (thrown: unknown) => thrown instanceof SuperfleetError && thrown.code === 'SF_FRAME',
  );
});

test('a peer that sends past its credit, or grants what it never got, is SF_FRAME (promise 18)', () => {
  const isFrame = (thrown: unknown): boolean =>
    thrown instanceof SuperfleetError && thrown.code === 'SF_FRAME';
  const receiver = new FlowReceiver(limits);
  receiver.received(4000);
  assert.throws(() => receiver.received(97), isFrame);
  assert.is(receiver.consumed(100), 0);
  assert.throws(() => receiver.received(97), isFrame, 'consumed is not yet granted');
  assert.is(receiver.consumed(156), 256);
  receiver.received(352);
  assert.throws(() => new FlowSender(limits).granted(1), isFrame);
});

test('the shares of a frame add up to its bytes', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 1, max: 256 }), (size, messages) => {
      const each = shares(size, messages);
      assert.is(each.length, messages);
      assert.is(
        each.reduce((sum, share) => sum + share, 0),
        size,
      );
    }),
  );
});

test.run();
