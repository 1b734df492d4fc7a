import type { ChildProcess } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LogindSignal, sessionSaid, sessionsListed } from '../../../node/offer/logind.ts';
import { end, lacksBus, standInBus } from './stand-in-bus.ts';

test('sessions are read as busctl prints them', () => {
  const text =
    '{"type":"a(susso)","data":[[["2",1000,"ann","seat0","/org/freedesktop/login1/session/_32"],["5",0,"root","","/org/freedesktop/login1/session/_35"]]]}';
  assert.equal(
    sessionsListed(text).map(({ id, seat }) => [id, seat]),
    [
      ['2', 'seat0'],
      ['5', ''],
    ],
  );
  assert.throws(() => sessionsListed('{"data":[]}'));
  const said = (type: string, active: boolean, idle: boolean, since: number): string =>
    [
      { type: 's', data: type },
      { type: 'b', data: active },
      { type: 'b', data: idle },
      { type: 't', data: since },
    ]
      .map((one) => JSON.stringify(one))
      .join('\n');
  assert.equal(sessionSaid('2', said('wayland', true, true, 5_000_000)), {
    session: '2',
    idle: true,
    since: 5_000,
  });
  assert.is(sessionSaid('2', said('wayland', true, false, 0))?.since, null);
  assert.is(sessionSaid('2', said('wayland', false, false, 0)), null, 'another user’s is shown at the seat');
  assert.is(sessionSaid('3', said('tty', true, false, 0)), null, 'terminals tell of themselves');
});

/** logind as far as it is asked here, on a bus of its own; each line it reads sets the desktop idle or not. */
const STAND_IN = `
import sys, time, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
name = dbus.service.BusName('org.freedesktop.login1', bus)
PATH = '/org/freedesktop/login1/session/_32'
since = [0]
idle = [False]
class Manager(dbus.service.Object):
    @dbus.service.method('org.freedesktop.login1.Manager', in_signature='', out_signature='a(susso)')
    def ListSessions(self):
        return [('2', dbus.UInt32(1000), 'ann', 'seat0', dbus.ObjectPath(PATH)), ('5', dbus.UInt32(0), 'root', '', dbus.ObjectPath(PATH + '5'))]
class Session(dbus.service.Object):
    @dbus.service.method('org.freedesktop.DBus.Properties', in_signature='ss', out_signature='v')
    def Get(self, interface, key):
        return {'Type': 'x11', 'Active': True, 'IdleHint': idle[0], 'IdleSinceHint': dbus.UInt64(since[0])}[key]
Manager(bus, '/org/freedesktop/login1')
Session(bus, PATH)
def heard(channel, condition):
    line = sys.stdin.readline()
    if line == '':
        loop.quit()
        return False
    idle[0] = line.strip() == 'idle'
    since[0] = int(time.time() * 1000000)
    print('done', flush=True)
    return True
loop = GLib.MainLoop()
GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, heard)
print('ready', flush=True)
loop.run()
`;

test('a desktop that calls itself idle, and not any more, is heard over a real bus', async () => {
  const lack = lacksBus('busctl');
  if (lack !== null) {
    console.log(`skipped: there is no ${lack}`);
    return;
  }
  const started: ChildProcess[] = [];
  const signals: LogindSignal[] = [];
  try {
    const { address, child, said } = await standInBus(started, STAND_IN);
    const tell = async (word: string): Promise<void> => {
      child.stdin.write(`${word}\n`);
      assert.is((await said.next()).value, 'done');
    };
    const signal = new LogindSignal([`--address=${address}`]);
    signals.push(signal);
    await signal.ask();
    assert.equal(signal.look(), [{ session: '2', idle: false, since: null }]);
    const before = Date.now() - 1;
    await tell('idle');
    await signal.ask();
    const [session] = signal.look() ?? [];
    assert.is(session?.idle, true);
    assert.ok(session!.since! >= before && session!.since! <= Date.now() + 1, String(session?.since));
    await tell('back');
    await signal.ask();
    assert.is(signal.look()?.[0]?.idle, false);
    assert.is(signal.look(performance.now() + 60_000), null, 'what was said long ago counts no more');
  } finally {
    for (const signal of signals) signal.close();
    await end(started);
  }
});

test('where there is no logind nothing is said', async () => {
  const signal = new LogindSignal(['--address=unix:path=/nonexistent/bus']);
  await signal.ask();
  assert.is(signal.look(), null);
  signal.close();
});

test.run();
