import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FrameChannel } from '../../../node/network/channel.ts';
import { type TailEvent, tail } from '../../../node/network/tail-client.ts';
import { serveTails } from '../../../node/network/tail-server.ts';
import { TailSource, TailSources } from '../../../node/network/tail-source.ts';
import { frameOf } from '../../../protocol/frame.ts';
import { TAIL_PROTOCOL, tailRingBytes } from '../../../protocol/tail.ts';
import { connect, type Net, withNet } from './hosts.ts';

const TASK = 'aaaaaaaaaaaa';
const never = new AbortController().signal;

/** A founder connected to a member that serves its tails. */
async function pair(net: Net) {
  const founder = await net.founding();
  const member = await net.member();
  const { registry, errors } = net.registry(member);
  const sources = new TailSources();
  await serveTails(registry, sources);
  return { founder: founder.host, member, sources, errors, connection: await connect(founder.host, member) };
}

const target = { task: TASK, attempt: 1, from: 0 };

/** All events of a tail, with the bytes put together. */
async function collect(events: AsyncIterable<TailEvent>) {
  const pieces: Uint8Array[] = [];
  let dropped = 0;
  let end: TailEvent | null = null;
  for await (const event of events) {
    if (event.type === 'bytes') pieces.push(event.bytes);
    else if (event.type === 'dropped') dropped += event.bytes;
    else end = event;
  }
  return { bytes: Buffer.concat(pieces), dropped, end };
}

test('a ring keeps the newest bytes and says how many older ones are gone (promise 18)', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 30 }),
      fc.nat({ max: 400 }),
      fc.integer({ min: 1, max: 50 }),
      (writes, from, max) => {
        const source = new TailSource(32);
        const all = Buffer.concat(writes);
        for (const bytes of writes) source.write(bytes);
        source.end('finished');
        let offset = from;
        for (;;) {
          const read = source.read(offset, max);
          offset += read.dropped;
          if (read.state !== 'bytes') {
            assert.is(read.state, 'ended');
            assert.ok(offset >= all.length || all.length === 0);
            break;
          }
          assert.ok(read.bytes.length <= max);
          assert.ok(all.subarray(offset, offset + read.bytes.length).equals(read.bytes));
          offset += read.bytes.length;
        }
      },
    ),
  );
});

test(
  'output streams live, in order, to its end',
  withNet(async (net) => {
    const { connection, sources } = await pair(net);
    const source = sources.open(TASK, 1);
    source.write(Buffer.from('before '));
    const collected = collect(tail(connection, target, never));
    for (const word of ['one ', 'two ', 'three']) source.write(Buffer.from(word));
    source.end('finished');
    const { bytes, dropped, end } = await collected;
    assert.is(bytes.toString(), 'before one two three');
    assert.is(dropped, 0);
    assert.equal(end, { type: 'end', reason: 'finished', bytes: 20 });
    const later = await collect(tail(connection, { ...target, from: 7 }, never));
    assert.is(later.bytes.toString(), 'one two three', 'an ended attempt can still be looked at');
  }),
);

test(
  'a founder that falls behind is told how much it missed, and sees the newest (promise 18)',
  withNet(async (net) => {
    const { connection, sources } = await pair(net);
    const source = sources.open(TASK, 1);
    const total = 8 * tailRingBytes;
    const all = randomBytes(total);
    const events = tail(connection, target, never);
    source.write(all.subarray(0, 1000));
    const first = await events.next();
    assert.ok(first.value?.type === 'bytes' && first.value.offset === 0);
    // The founder stalls here, with 1000 bytes taken, while the task floods.
    for (let at = 1000; at < total; at += 50_000)
      source.write(all.subarray(at, Math.min(total, at + 50_000)));
    source.end('finished');
    const { bytes, dropped, end } = await collect(events);
    assert.ok(dropped > 6 * tailRingBytes, `dropped ${dropped}`);
    assert.is(dropped + bytes.length + 1000, total, 'what came and what was dropped is all there was');
    assert.ok(bytes.subarray(-1000).equals(all.subarray(-1000)), 'the newest output came');
    assert.equal(end, { type: 'end', reason: 'finished', bytes: total });
  }),
);

test(
  'an attempt that does not run here ends at once as unknown',
  withNet(async (net) => {
    const { connection } = await pair(net);
    const { end } = await collect(tail(connection, target, never));
    assert.equal(end, { type: 'end', reason: 'unknown', bytes: 0 });
  }),
);

test(
  'a founder that looks away leaves nothing open on the member',
  withNet(async (net) => {
    const { connection, sources, member } = await pair(net);
    const source = sources.open(TASK, 1);
    source.write(Buffer.from('x'));
    for await (const event of tail(connection, target, never)) {
      assert.is(event.type, 'bytes');
      break;
    }
    const open = () =>
      member.libp2p
        .getConnections()
        .flatMap(({ streams }) => streams.filter((s) => s.protocol === TAIL_PROTOCOL));
    for (const stream of open()) {
      await new Promise((resolve) => stream.addEventListener('close', resolve, { once: true }));
    }
    assert.is(open().length, 0);
  }),
);

test(
  'nobody but the founder sees output, not even a member',
  withNet(async (net) => {
    const { member, sources, errors } = await pair(net);
    sources.open(TASK, 1).write(Buffer.from('secret'));
    const other = await net.member();
    const stranger = await net.host();
    for (const curious of [other, stranger]) {
      const channel = new FrameChannel(await (await connect(curious, member)).newStream(TAIL_PROTOCOL));
      await channel.write(frameOf({ type: 'tail', ...target } as { type: string })).catch(() => {});
      const answer = await channel.read().catch(() => null);
      assert.is(answer, null);
    }
    assert.equal(errors, ['SF_REFUSED', 'SF_REFUSED']);
  }),
);

test.run();
