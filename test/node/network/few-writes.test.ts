import { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FrameChannel } from '../../../node/network/channel.ts';
import { connect, Signal, withNet } from './hosts.ts';

const PROTOCOL = '/superfleet/test-few-writes/1.0.0';
const MESSAGES = 20;

test(
  'what one turn of the event loop sends leaves in one write, and is read without an exception for each read',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    let bytes = 0;
    const came = new Signal<number>();
    await b.libp2p.handle(PROTOCOL, (stream) => {
      stream.addEventListener('message', ({ data }) => {
        bytes += data.byteLength;
        came.put(bytes);
      });
    });
    const stream = await (await connect(a, b)).newStream(PROTOCOL);
    const exceptions: string[] = [];
    const plainError = globalThis.RangeError;
    const prototype = Socket.prototype as unknown as Record<'_write' | '_writev', (...args: never[]) => void>;
    const { _write, _writev } = prototype;
    let writes = 0;
    const counted = (plain: (...args: never[]) => void) =>
      function (this: Socket, ...args: never[]): void {
        writes += 1;
        plain.apply(this, args);
      };
    try {
      // biome-ignore lint/suspicious/noGlobalAssign: what the decoder throws is seen by nobody else
      RangeError = ((message: string) => {
        exceptions.push(message);
        return new plainError(message);
      }) as unknown as RangeErrorConstructor;
      Object.setPrototypeOf(RangeError, plainError);
      await turn();
      prototype._write = counted(_write);
      prototype._writev = counted(_writev);
      for (let n = 0; n < MESSAGES; n++) stream.send(Buffer.from('0123456789'));
      assert.is(writes, 0);
      await turn();
      assert.is(writes, 1);
      while ((await came.next()) < MESSAGES * 10);
      assert.equal(exceptions, []);
    } finally {
      Object.assign(prototype, { _write, _writev });
      // biome-ignore lint/suspicious/noGlobalAssign: as it was
      RangeError = plainError;
    }
  }),
);

test(
  'a reader tells of room it has again for many bytes, not for each message; the writer never stops for it',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    const [, port] = /\/tcp\/(\d+)/.exec(b.addresses()[0]!)!;
    const came = new Signal<number>();
    let bytes = 0;
    await b.libp2p.handle(PROTOCOL, (stream) => {
      stream.addEventListener('message', ({ data }) => {
        bytes += data.byteLength;
        came.put(bytes);
      });
    });
    const stream = await (await connect(a, b)).newStream(PROTOCOL);
    const prototype = Socket.prototype as unknown as Record<'_write' | '_writev', (...args: never[]) => void>;
    const { _write, _writev } = prototype;
    let said = 0;
    const counted = (plain: (...args: never[]) => void) =>
      function (this: Socket, ...args: never[]): void {
        if (this.localPort === Number(port)) said += 1;
        plain.apply(this, args);
      };
    const arrive = async (total: number): Promise<void> => {
      while (bytes < total) await came.next();
      await turn();
      await turn();
    };
    stream.send(Buffer.alloc(10));
    await arrive(10);
    try {
      prototype._write = counted(_write);
      prototype._writev = counted(_writev);
      for (let n = 1; n <= MESSAGES; n++) {
        stream.send(Buffer.alloc(10));
        await arrive(10 + n * 10);
      }
      assert.is(said, 0);
    } finally {
      Object.assign(prototype, { _write, _writev });
    }
    // Many windows more than the first.
    const more = 4 * 2 ** 20;
    const channel = new FrameChannel(stream);
    for (let sent = 0; sent < more; sent += 2 ** 16) await channel.write(Buffer.alloc(2 ** 16));
    while (bytes < more) await came.next();
  }),
);

test.run();
