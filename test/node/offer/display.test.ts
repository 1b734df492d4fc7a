import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DisplaySignal } from '../../../node/offer/display.ts';
import { cookieFor, localDisplay, readReply, readSetup, setupRequest } from '../../../node/offer/x11.ts';

const COOKIE = 'MIT-MAGIC-COOKIE-1';

/** An entry of an Xauthority file. */
function entry(family: number, address: string, number: string, name: string, data: Buffer): Buffer {
  const fields = [Buffer.from(address), Buffer.from(number), Buffer.from(name), data].map((bytes) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  const head = Buffer.alloc(2);
  head.writeUInt16BE(family);
  return Buffer.concat([head, ...fields]);
}

test('only displays of this machine are asked', () => {
  for (const [display, number] of [
    [':0', '0'],
    [':0.0', '0'],
    ['unix:12.1', '12'],
    ['unix/:3', '3'],
    ['localhost:10.0', null],
    ['192.168.1.5:0', null],
    ['wayland-0', null],
    ['', null],
    [undefined, null],
  ] as const) {
    assert.is(localDisplay(display), number, String(display));
  }
});

test('of the cookies in a file that of this host and display is taken; a file that was cut off has none after the cut', () => {
  const [one, two, three] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2), Buffer.alloc(16, 3)];
  const file = Buffer.concat([
    entry(0, '\x7f\0\0\x01', '0', COOKIE, one),
    entry(256, 'other', '0', COOKIE, one),
    entry(256, 'host', '1', COOKIE, two),
    entry(256, 'host', '0', 'XDM-AUTHORIZATION-1', one),
    entry(65_535, '', '', COOKIE, three),
  ]);
  assert.equal(cookieFor(file, 'host', '1'), two);
  assert.equal(cookieFor(file, 'host', '0'), three);
  for (let length = 0; length < file.length; length += 1) {
    const cut = cookieFor(file.subarray(0, length), 'host', '0');
    assert.is(cut, null, `of ${length} bytes`);
  }
  assert.is(cookieFor(randomBytes(64), 'host', '0'), null);
});

test('answers are read when they are whole, whatever they are cut into; an answer that is none is refused', () => {
  assert.is(setupRequest(null).length, 12);
  assert.is(setupRequest(Buffer.alloc(16)).length, 12 + 20 + 16);
  const refused = Buffer.concat([Buffer.from([0, 5, 11, 0, 0, 0, 2, 0]), Buffer.from('go on\0\0\0')]);
  for (let length = 0; length < refused.length; length += 1)
    assert.is(readSetup(refused.subarray(0, length)), null);
  assert.equal(readSetup(refused), { bytes: 16, root: null, refusal: 'go on' });
  // A success without what a success has: nothing is read behind its end.
  for (const words of [0, 1, 7, 8, 9]) {
    const short = Buffer.alloc(8 + 4 * words, 0xff);
    short[0] = 1;
    short.writeUInt16LE(words, 6);
    assert.is(readSetup(short)?.root, null, `${words} words`);
    assert.is(readSetup(short)?.bytes, short.length);
  }
  const event = Buffer.alloc(32);
  event[0] = 34;
  assert.equal(readReply(event), { bytes: 32, reply: null });
  assert.equal(readReply(Buffer.alloc(32)), { bytes: 32, reply: 'error' });
  assert.is(readReply(Buffer.alloc(31)), null);
});

test('an authority file that is a pipe, or far too large, holds nobody up and gives no cookie', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-authority-'));
  const number = String(40_000 + (process.pid % 20_000));
  const socket = `/tmp/.X11-unix/X${number}`;
  mkdirSync('/tmp/.X11-unix', { recursive: true });
  // Takes no cookie, says so, and shows what it was sent.
  let sent: Buffer = Buffer.alloc(0);
  const server = createServer((connection) => {
    connection.on('error', () => {});
    connection.once('data', (bytes: Buffer) => {
      sent = bytes;
      connection.end(Buffer.concat([Buffer.from([0, 2, 11, 0, 0, 0, 1, 0]), Buffer.from('no\0\0')]));
    });
  });
  try {
    await once(server.listen(socket), 'listening');
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    const large = entry(65_535, '', '', COOKIE, Buffer.alloc(16));
    writeFileSync(join(folder, 'large'), Buffer.concat([large, Buffer.alloc(64 * 1024)]));
    for (const name of ['pipe', 'large']) {
      const signal = new DisplaySignal({ DISPLAY: `:${number}`, XAUTHORITY: join(folder, name) });
      await signal.ask();
      assert.equal([signal.refusal, sent.length], ['no', 12], name);
      signal.close();
    }
  } finally {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

const lacks = (): string | null => {
  for (const command of ['Xvfb', 'xdotool']) {
    try {
      execFileSync('which', [command], { stdio: 'ignore' });
    } catch {
      return command;
    }
  }
  return null;
};

test('a real X server tells how long nothing was touched; a key is seen; a wrong cookie is refused; one that is gone says nothing', async () => {
  const lack = lacks();
  if (lack !== null) {
    console.log(`skipped: there is no ${lack}`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-display-'));
  // Far from the numbers of seats, so that nobody takes it for a screen.
  const number = String(1_000 + (process.pid % 30_000));
  const authority = (name: string, cookie: Buffer): string => {
    const path = join(folder, name);
    writeFileSync(path, entry(256, hostname(), number, COOKIE, cookie), { mode: 0o600 });
    return path;
  };
  const cookie = randomBytes(16);
  const right = authority('right', cookie);
  const signals: DisplaySignal[] = [];
  const signal = (env: Record<string, string>): DisplaySignal => {
    const made = new DisplaySignal({ DISPLAY: `:${number}`, HOME: folder, ...env });
    signals.push(made);
    return made;
  };
  let server: ChildProcess | null = null;
  try {
    const started = spawn('Xvfb', [`:${number}`, '-auth', right, '-nolisten', 'tcp', '-displayfd', '3'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    server = started;
    const [said] = await once(createInterface({ input: started.stdio[3] as NodeJS.ReadableStream }), 'line');
    assert.is(said, number);

    const user = signal({ XAUTHORITY: right, XDG_SESSION_TYPE: 'x11' });
    assert.is(user.look(), null, 'it has not answered yet');
    await user.ask();
    assert.is(user.refusal, null);
    const first = user.look();
    assert.ok(first !== null);
    assert.is(first.all, false, 'it is nobody’s seat');
    const longer = async (than: number): Promise<number> => {
      for (;;) {
        await user.ask();
        const { idleMs } = user.look()!;
        if (idleMs > than) return idleMs;
      }
    };
    const before = await longer(first.idleMs + 300);
    const pressed = performance.now();
    execFileSync('xdotool', ['key', 'a'], {
      env: { ...process.env, DISPLAY: `:${number}`, XAUTHORITY: right },
      stdio: 'ignore',
    });
    // The first answer is to what was asked before the key.
    await user.ask();
    await user.ask();
    const { idleMs } = user.look()!;
    assert.ok(
      idleMs < before + (performance.now() - pressed),
      `the key ended ${before} ms of nothing: ${idleMs} ms`,
    );
    assert.is(user.look(performance.now() + 60_000), null, 'what was said long ago counts no more');

    const stranger = signal({ XAUTHORITY: authority('wrong', randomBytes(16)) });
    await stranger.ask();
    assert.is(stranger.look(), null);
    assert.match(stranger.refusal ?? '', /[Aa]uthori[sz]ation|Invalid|No protocol/);

    const gone = once(started, 'close');
    started.kill('SIGTERM');
    await gone;
    await user.ask();
    assert.is(user.look(performance.now() + 10_000), null, 'nobody answers any more');
  } finally {
    for (const one of signals) one.close();
    if (server !== null && server.exitCode === null && server.signalCode === null) {
      const gone = once(server, 'close');
      server.kill('SIGTERM');
      await gone;
    }
    rmSync(folder, { recursive: true });
  }
  assert.not.ok(existsSync(`/tmp/.X11-unix/X${number}`));
});

test('where there is no display nothing is said, and nothing is refused', async () => {
  for (const env of [{}, { DISPLAY: 'elsewhere:0' }, { DISPLAY: ':31999' }]) {
    const signal = new DisplaySignal(env);
    await signal.ask();
    assert.is(signal.look(), null);
    assert.is(signal.refusal, null);
    signal.close();
  }
});

test.run();
