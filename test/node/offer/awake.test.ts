import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AttemptRunner } from '../../../node/attempt/types.ts';
import { KeptAwake, toldOf } from '../../../node/offer/awake.ts';
import { end, type Lines, lacksBus, linesOf, standInBus } from './stand-in-bus.ts';

test('a machine is at work while any attempt runs that is not suspended', async () => {
  const said: [boolean, boolean][] = [];
  const ends: (() => void)[] = [];
  const steps: string[] = [];
  const runner = {
    run: () => new Promise((resolve) => ends.push(() => resolve(null))),
    suspend: () => steps.push('suspend'),
    resume: () => steps.push('resume'),
  } as unknown as AttemptRunner;
  const told = toldOf(runner, {
    work: (working, suspended = false) => {
      said.push([working, suspended]);
      steps.push(working ? 'awake' : 'may sleep');
    },
  });
  const attempt = (): Promise<unknown> => told.run(...([] as unknown as Parameters<AttemptRunner['run']>));
  const [one, two] = [attempt(), attempt()];
  ends[0]!();
  await one;
  assert.equal(said, [
    [true, false],
    [true, false],
    [true, false],
  ]);
  steps.length = 0;
  told.suspend!();
  told.resume!();
  assert.equal(steps, ['suspend', 'may sleep', 'resume', 'awake'], 'the owner’s return is served first');
  told.suspend!();
  ends[1]!();
  await two;
  assert.equal(said.at(-1), [false, true]);
  told.resume!();
  assert.equal(said.at(-1), [false, false]);
});

/** logind as far as it is asked here: gives locks, and says when one is given and when it is gone. */
const STAND_IN = `
import os, sys, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
name = dbus.service.BusName('org.freedesktop.login1', bus)
def gone(fd, condition):
    os.close(fd)
    print('gone', flush=True)
    return False
class Manager(dbus.service.Object):
    @dbus.service.method('org.freedesktop.login1.Manager', in_signature='ssss', out_signature='h')
    def Inhibit(self, what, who, why, mode):
        if len(sys.argv) > 2:
            raise dbus.exceptions.DBusException('Access denied', name='org.freedesktop.DBus.Error.AccessDenied')
        ours, lock = os.pipe()
        given = dbus.types.UnixFd(lock)
        os.close(lock)
        GLib.io_add_watch(ours, GLib.IO_HUP, gone)
        print(f'{what} {mode} {who}', flush=True)
        return given
Manager(bus, '/org/freedesktop/login1')
def closed(channel, condition):
    loop.quit()
    return False
loop = GLib.MainLoop()
GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, closed)
print('ready', flush=True)
loop.run()
`;

/** A bus of its own with a logind on it; what that says, line by line. */
async function withLogind(
  started: ChildProcess[],
  ...refuses: string[]
): Promise<{ env: NodeJS.ProcessEnv; said: Lines }> {
  const { address, said } = await standInBus(started, STAND_IN, ...refuses);
  return { env: { DBUS_SYSTEM_BUS_ADDRESS: address }, said };
}

test('the lock is held while it works, goes at once when that is suspended, and with the process, however it ends', async () => {
  const lack = lacksBus('systemd-inhibit');
  if (lack !== null) {
    console.log(`skipped: there is no ${lack}`);
    return;
  }
  const started: ChildProcess[] = [];
  let awake: KeptAwake | null = null;
  try {
    const { env, said } = await withLogind(started);
    const next = async (): Promise<unknown> => (await said.next()).value;
    awake = new KeptAwake(env);
    assert.match(awake.says, /^may sleep now/);
    awake.work(true);
    assert.is(await next(), 'sleep block superfleet');
    await awake.settled();
    assert.ok(awake.held);
    assert.match(awake.says, /^kept awake/);
    awake.work(false);
    awake.work(true);
    assert.ok(awake.held, 'another attempt began meanwhile');
    awake.work(false, true);
    assert.not.ok(awake.held);
    assert.is(await next(), 'gone');
    awake.work(true);
    assert.is(await next(), 'sleep block superfleet');
    awake.work(false);
    assert.is(await next(), 'gone', 'when the last has ended');
    awake.work(true);
    assert.is(await next(), 'sleep block superfleet');
    await awake.close();
    assert.is(await next(), 'gone');

    const module = JSON.stringify(new URL('../../../node/offer/awake.ts', import.meta.url).href);
    const program = `
      const { KeptAwake } = await import(${module});
      const awake = new KeptAwake();
      awake.work(true);
      await awake.settled();
      console.log(awake.held);
      setInterval(() => {}, 60_000);
    `;
    const node = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    started.push(node);
    assert.is(await next(), 'sleep block superfleet');
    assert.is((await linesOf(node).next()).value, 'true');
    node.kill('SIGKILL');
    assert.is(await next(), 'gone');
  } finally {
    await awake?.close();
    await end(started);
  }
});

test('where logind refuses, or is not there, the reason is said and nothing is held', async () => {
  const lack = lacksBus('systemd-inhibit');
  if (lack !== null) {
    console.log(`skipped: there is no ${lack}`);
    return;
  }
  const started: ChildProcess[] = [];
  const awakes: KeptAwake[] = [];
  try {
    const refusing = await withLogind(started, 'refuses');
    for (const [env, words] of [
      [refusing.env, /^cannot be kept awake: .*[Aa]ccess denied/],
      [{ DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nonexistent/bus' }, /^cannot be kept awake: .*No such file/],
    ] as const) {
      const awake = new KeptAwake(env);
      awakes.push(awake);
      awake.work(true);
      await awake.settled();
      assert.not.ok(awake.held);
      assert.match(awake.says, words);
      awake.work(true);
      await awake.settled();
      assert.match(awake.says, words, 'it is not asked again and again');
    }
  } finally {
    for (const awake of awakes) await awake.close();
    await end(started);
  }
});

test('where no descriptor is left it says so, holds nothing, and tries again later', () => {
  const module = JSON.stringify(new URL('../../../node/offer/awake.ts', import.meta.url).href);
  const program = `
    import { closeSync, openSync } from 'node:fs';
    const { KeptAwake } = await import(${module});
    const awake = new KeptAwake();
    const open = [];
    try {
      for (;;) open.push(openSync('/dev/null', 'r'));
    } catch {}
    awake.work(true);
    await awake.settled();
    for (const one of open) closeSync(one);
    console.log(awake.says);
    awake.work(false, true);
    await awake.close();
  `;
  const words = 'ulimit -n 100 && exec "$@"';
  const argv = ['-c', words, 'sh', process.execPath, '--input-type=module', '-e', program];
  const said = execFileSync('sh', argv, { encoding: 'utf8' });
  assert.match(said, /^cannot be kept awake: .*EMFILE/);
});

test('a runner that is told of still lets go of what it keeps', async () => {
  let gone = 0;
  const letGo = async (): Promise<void> => {
    gone += 1;
  };
  await toldOf({ run: () => Promise.reject(new Error('no work')), letGo }, { work: () => {} }).letGo?.();
  assert.is(gone, 1);
});

test.run();
