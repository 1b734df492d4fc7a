import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { detachedLogPath, markPath, readMark, runFolder } from '../../../node/api/socket.ts';
import { lives, markOf } from '../../../node/process-mark.ts';
import { encodeInvite } from '../../../protocol/invite.ts';
import { keys } from '../../protocol/samples.ts';

const STAND_IN = join(import.meta.dirname, 'stand-in.ts');

interface Said {
  code: number | null;
  out: string;
  err: string;
}

function run(
  dir: string,
  words: string[],
  onOut: (out: string, end: () => void) => void = () => {},
): Promise<Said> {
  const child = spawn(process.execPath, [STAND_IN, '--dir', dir, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (bytes: Buffer) => {
    out += bytes;
    onOut(out, () => child.kill('SIGINT'));
  });
  child.stderr.on('data', (bytes: Buffer) => (err += bytes));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

async function inFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'sf-life-'));
  const dir = join(root, 'data');
  mkdirSync(dir);
  try {
    await body(dir);
  } finally {
    const mark = readMark(dir);
    if (mark !== null && lives(mark)) process.kill(mark.pid, 'SIGKILL');
    rmSync(root, { recursive: true, force: true });
  }
}

test('--detach returns when the process is ready, and stop when it is gone', () =>
  inFolder(async (dir) => {
    const begun = await run(dir, ['--detach', '--json']);
    assert.is(begun.code, 0, begun.err);
    assert.equal(JSON.parse(begun.out), {
      event: 'ready',
      mesh: 'm',
      id: 'i',
      name: 'n',
      addresses: ['/ip4/1'],
      online: true,
    });
    const mark = readMark(dir);
    assert.ok(mark !== null && lives(mark), 'it goes on in the background');
    assert.match(readFileSync(detachedLogPath(dir), 'utf8'), /^started$/m);
    const stopped = await run(dir, ['stop', '--json']);
    assert.equal(JSON.parse(stopped.out), { stopped: true, pid: mark.pid });
    assert.not.ok(lives(mark));
    assert.not.ok(existsSync(markPath(dir)));
    assert.equal(JSON.parse((await run(dir, ['stop', '--json'])).out), { stopped: false, pid: null });
  }));

test('an error before it is ready is the error of the command, with its exit code', () =>
  inFolder(async (dir) => {
    const refused = await run(dir, ['--detach', '--json', 'refuse']);
    assert.is(refused.code, 6);
    assert.is(JSON.parse(refused.err).error.code, 'SF_PORT_IN_USE');
    assert.is(refused.out, '');
    const crashed = await run(dir, ['--detach', '--json', 'crash']);
    assert.is(crashed.code, 70);
    const { error } = JSON.parse(crashed.err);
    assert.is(error.got, 'exit code 9', 'the error of the start before is not taken for this one');
    assert.match(error.hint, /\.log$/);
  }));

test('the code to be approved is passed on while it waits', () =>
  inFolder(async (dir) => {
    const begun = await run(dir, ['--detach', '--json', 'pend']);
    const lines = begun.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(
      lines.map((line) => line.event),
      ['pending', 'ready'],
    );
    assert.is(lines[0].code, '123-456-789');
    assert.is((await run(dir, ['stop'])).code, 0);
  }));

test('Ctrl-C while it waits ends the process that was begun, exit 130', () =>
  inFolder(async (dir) => {
    let asked = false;
    const begun = await run(dir, ['--detach', 'pend', 'hang'], (_, end) => {
      // Once: the second Ctrl-C ends a process at once, and the code may come in two pieces.
      if (!asked) end();
      asked = true;
    });
    assert.is(begun.code, 130);
    assert.match(begun.out, /123-456-789/);
    assert.is(readMark(dir), null, 'it has closed its socket in order');
  }));

test('a process that does not answer on its socket is ended by signal', () =>
  inFolder(async (dir) => {
    const child = spawn(process.execPath, [STAND_IN, '--dir', dir, 'deaf'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    mkdirSync(runFolder(dir), { mode: 0o700 });
    writeFileSync(markPath(dir), JSON.stringify(markOf(child.pid ?? 0)));
    const gone = new Promise((resolve) => child.once('exit', resolve));
    const stopped = await run(dir, ['stop']);
    assert.is(stopped.code, 0, stopped.err);
    await gone;
  }));

test('a reused pid is left alone', () =>
  inFolder(async (dir) => {
    mkdirSync(runFolder(dir), { mode: 0o700 });
    writeFileSync(markPath(dir), JSON.stringify({ pid: process.pid, started: '1' }));
    assert.equal(JSON.parse((await run(dir, ['stop', '--json'])).out), { stopped: false, pid: null });
  }));

test('the token is not in the command line that every user of the machine can read, while join works', () =>
  inFolder(async (dir) => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const token = encodeInvite({
      mesh: 'ab'.repeat(32),
      founder: keys.executor.peer,
      addresses: [`/ip4/127.0.0.1/tcp/${port}`],
      secret: '0'.repeat(32),
      expiresAt: Date.now() + 60_000,
      roles: ['worker'],
    });
    const words = [join(import.meta.dirname, '../../../hub/mesh-node.js'), '--dir', dir, 'join', token];
    const child = spawn(process.execPath, words, { stdio: 'ignore' });
    const ended = once(child, 'close');
    try {
      await once(server, 'connection');
      const shown = readFileSync(`/proc/${child.pid}/cmdline`, 'latin1');
      assert.not.match(shown, token);
      assert.match(shown, dir, 'which folder it works with can be seen');
    } finally {
      child.kill('SIGKILL');
      await ended;
      server.close();
    }
  }));

test.run();
