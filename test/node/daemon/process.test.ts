import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Machine } from '../../../node/daemon/machine.ts';
import { Lifetime } from '../../../node/daemon/process.ts';
import { living } from '../../../node/daemon/start.ts';
import { EXIT, SuperfleetError } from '../../../protocol/errors.ts';

const silent = pino({ level: 'silent' });

test('what was opened last is closed first, once, and the first reason is the one that counts', async () => {
  const closed: string[] = [];
  const lifetime = new Lifetime(silent);
  lifetime.onStop(() => closed.push('folder'));
  lifetime.onStop(async () => {
    await null;
    closed.push('host');
  });
  const done = lifetime.run();
  lifetime.end(new SuperfleetError('SF_REVOKED', 'revoked'));
  lifetime.end();
  assert.is(await done.catch((error: SuperfleetError) => error.code), 'SF_REVOKED');
  assert.equal(closed, ['host', 'folder']);
});

test('a part that cannot be closed keeps none of the others open', async () => {
  const closed: string[] = [];
  const lifetime = new Lifetime(silent);
  lifetime.onStop(() => closed.push('folder'));
  lifetime.onStop(() => Promise.reject(new Error('the disk is gone')));
  lifetime.onStop(() => closed.push('api'));
  const done = lifetime.run();
  lifetime.end();
  assert.is(await done, EXIT.ok);
  assert.equal(closed, ['api', 'folder']);
});

test('what fails while the process is still starting ends it as soon as it runs', async () => {
  const lifetime = new Lifetime(silent);
  lifetime.end(new SuperfleetError('SF_DISK_FULL', 'no room for the log'));
  assert.is(lifetime.failure?.code, 'SF_DISK_FULL');
  assert.is(await lifetime.run().catch((error: SuperfleetError) => error.exitCode), EXIT.machine);
});

test('a role is closed before the next is opened, and what both stand on stays until the end', async () => {
  const seen: string[] = [];
  const lifetime = new Lifetime(silent);
  lifetime.keep(() => seen.push('host closed'));
  lifetime.onStop(() => seen.push('member closed'));
  // Asked for while it still starts.
  lifetime.become(async () => {
    seen.push('founder opens');
    lifetime.onStop(() => seen.push('founder closed'));
    // What ends it in the midst of the change is heard after it.
    lifetime.end();
    lifetime.become(async () => seen.push('never'));
  });
  assert.is(await lifetime.run(), EXIT.ok);
  assert.equal(seen, ['member closed', 'founder opens', 'founder closed', 'host closed']);
});

test('a role that cannot be opened ends the process with its fault', async () => {
  const lifetime = new Lifetime(silent);
  const done = lifetime.run().catch((error: SuperfleetError) => error.code);
  lifetime.become(() => Promise.reject(new SuperfleetError('SF_PORT_IN_USE', 'port 4701 is taken')));
  assert.is(await done, 'SF_PORT_IN_USE');
});

test('a start that fails half way leaves nothing open, and tells its own error', async () => {
  const closed: string[] = [];
  const machine = { logger: silent, close: async () => void closed.push('folder') } as unknown as Machine;
  const started = living(machine, async (lifetime) => {
    lifetime.onStop(() => closed.push('log'));
    lifetime.onStop(() => Promise.reject(new Error('cannot be closed')));
    throw new SuperfleetError('SF_PORT_IN_USE', 'port 4701 belongs to another process');
  });
  const code = await started.then(
    () => 'started',
    (error: SuperfleetError) => error.code,
  );
  assert.is(code, 'SF_PORT_IN_USE');
  assert.equal(closed, ['log', 'folder']);
});

test('a fault that nobody caught closes what is open and ends with 70', async () => {
  const path = resolve(import.meta.dirname, '../../../node/daemon/process.ts');
  const program = `
    import { Lifetime } from ${JSON.stringify(path)};
    const quiet = { info() {}, warn() {}, error() {} };
    const lifetime = new Lifetime(quiet);
    lifetime.onStop(() => console.log('closed'));
    lifetime.run().catch((error) => process.exit(error.exitCode));
    setInterval(() => {}, 1000);
    Promise.reject(new Error('nobody looks'));
  `;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (bytes: Buffer) => (said += bytes));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.is(said, 'closed\n');
  assert.is(code, EXIT.internal);
});

test('a stop that hangs is ended by a second signal', async () => {
  const path = resolve(import.meta.dirname, '../../../node/daemon/process.ts');
  const program = `
    import { Lifetime } from ${JSON.stringify(path)};
    const quiet = { info() {}, warn() {}, error() {} };
    const lifetime = new Lifetime(quiet);
    lifetime.onStop(() => new Promise(() => {}));
    lifetime.run();
    setInterval(() => {}, 1000);
    process.on('SIGTERM', () => console.log('heard'));
    console.log('ready');
  `;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  const heard = async (): Promise<void> => void (await once(child.stdout, 'data'));
  await heard();
  child.kill('SIGTERM');
  await heard();
  // Sent again until it counts: one that comes at once may be the same one twice.
  const again = setInterval(() => child.kill('SIGTERM'), 200);
  const [code] = (await gone) as [number | null];
  clearInterval(again);
  assert.is(code, EXIT.interrupted);
});

test.run();
