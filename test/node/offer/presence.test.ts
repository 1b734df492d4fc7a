import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { SessionIdle } from '../../../node/offer/logind.ts';
import {
  keyboardInterrupts,
  type PresencePlaces,
  PresenceSensor,
  unseenInputs,
} from '../../../node/offer/presence.ts';
import { hasSeat } from '../../../node/offer/seat.ts';

const KEYBOARD = `I: Bus=0011 Vendor=0001 Product=0001 Version=ab41
N: Name="AT Translated Set 2 keyboard"
H: Handlers=sysrq kbd event3 leds
`;
const MOUSE = `I: Bus=0003 Vendor=046d Product=c077 Version=0111
N: Name="Logitech USB Optical Mouse"
H: Handlers=mouse0 event5
`;
const BUTTON = `I: Bus=0019 Vendor=0000 Product=0001 Version=0000
N: Name="Power Button"
H: Handlers=kbd event0
`;

test('a keyboard counts as seen by its interrupts, a USB mouse only where its events can be read', () => {
  const all = [KEYBOARD, MOUSE, BUTTON].join('\n');
  assert.equal(unseenInputs(all, ['event5'], true), []);
  assert.equal(unseenInputs(all, [], true), ['Logitech USB Optical Mouse']);
  assert.equal(unseenInputs(all, ['event5'], false), ['AT Translated Set 2 keyboard']);
  assert.equal(unseenInputs('', [], false), []);
});

test('interrupts of the PS/2 controller are summed over processors and lines', () => {
  const text = `           CPU0       CPU1
  1:          9        100   IO-APIC   1-edge      i8042
  8:          0          1   IO-APIC   8-edge      rtc0
 12:         16          0   IO-APIC  12-edge      i8042
NMI:          1          2   Non-maskable interrupts
`;
  assert.is(keyboardInterrupts(text), 125);
  assert.is(keyboardInterrupts(text.replaceAll('i8042', 'xhci_hcd')), null);
  assert.is(keyboardInterrupts(''), null);
});

/** A folder laid out as the places a sensor looks at. */
function places(
  logind: () => SessionIdle[] | null = () => null,
  display: PresencePlaces['display'] = { look: () => null, refusal: null, close: () => {} },
): {
  root: string;
  sensor: (seat: boolean) => PresenceSensor;
} {
  const root = mkdtempSync(join(tmpdir(), 'superfleet-presence-'));
  mkdirSync(join(root, 'pts'));
  mkdirSync(join(root, 'input'));
  return {
    root,
    sensor: (seat) =>
      new PresenceSensor({
        dev: root,
        interrupts: join(root, 'interrupts'),
        inputDevices: join(root, 'devices'),
        seat: () => seat,
        logind: { look: logind, close: () => {} },
        display,
      }),
  };
}

test('the last sign is the newest of all terminals and of what changed between two looks', () => {
  const { root, sensor } = places();
  try {
    const now = 1_700_000_000_000;
    const touch = (name: string, ms: number): void => {
      writeFileSync(join(root, name), '');
      utimesSync(join(root, name), ms / 1000, ms / 1000);
    };
    touch('tty1', now - 600_000);
    touch('pts/0', now - 60_000);
    touch('null', now);
    const eyes = sensor(false);
    assert.equal(eyes.look(now), {
      idleMs: 60_000,
      signal: 'terminals',
      seat: false,
      signals: [{ name: 'terminals', says: 'last sign 1 min ago' }],
    });
    touch('pts/0', now + 8_000);
    assert.is(eyes.look(now + 9_000).idleMs, 0, 'a terminal was read from since the last look');
    assert.is(eyes.look(now + 10_000).idleMs, 1_000);
    rmSync(join(root, 'pts/0'));
    assert.is(eyes.look(now + 11_000).idleMs, 2_000, 'a sign outlives its terminal');
    touch('tty1', now + 99_000_000);
    assert.is(eyes.look(now + 12_000).idleMs, 0, 'a sign in the future is no older than now');
    writeFileSync(join(root, 'interrupts'), ' 1:  5  IO-APIC  1-edge  i8042\n');
    eyes.look(now + 20_000);
    assert.is(eyes.look(now + 30_000).idleMs, 10_000);
    writeFileSync(join(root, 'interrupts'), ' 1:  6  IO-APIC  1-edge  i8042\n');
    const { idleMs, signal } = eyes.look(now + 31_000);
    assert.equal([idleMs, signal], [0, 'keyboard interrupts']);
    eyes.close();
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('at a seat with a mouse that cannot be seen nothing is known; without a seat terminals suffice', () => {
  const { root, sensor } = places();
  try {
    writeFileSync(join(root, 'pts/0'), '');
    writeFileSync(join(root, 'devices'), [KEYBOARD, MOUSE].join('\n'));
    writeFileSync(join(root, 'interrupts'), ' 1:  5  IO-APIC  1-edge  i8042\n');
    assert.is(sensor(true).look(Date.now()).idleMs, null);
    assert.is.not(sensor(false).look(Date.now()).idleMs, null);
    writeFileSync(join(root, 'devices'), KEYBOARD);
    assert.is.not(sensor(true).look(Date.now()).idleMs, null);
    rmSync(join(root, 'devices'));
    assert.is(sensor(true).look(Date.now()).idleMs, null, 'nobody says which devices there are');
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('what cannot be seen at a seat the desktop decides: not idle is in use, idle is since when it says', () => {
  const now = 1_700_000_000_000;
  let said: SessionIdle[] | null = [{ session: '2', idle: false, since: now - 3_600_000 }];
  const { root, sensor } = places(() => said);
  try {
    writeFileSync(join(root, 'devices'), MOUSE);
    const eyes = sensor(true);
    const busy = eyes.look(now);
    assert.equal([busy.idleMs, busy.signal], [0, 'logind']);
    assert.equal(busy.signals, [
      { name: 'logind', says: 'session 2 is not idle; last sign now' },
      { name: 'not seen', says: 'Logitech USB Optical Mouse' },
    ]);
    said = [{ session: '2', idle: true, since: now + 1_000 }];
    assert.is(eyes.look(now + 60_000).idleMs, 59_000);
    said = null;
    assert.is(eyes.look(now + 61_000).idleMs, null, 'it answers no more: nothing is known');
    eyes.close();
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('where all keyboards and mice are seen a desktop that never calls itself idle bars nothing', () => {
  const now = 1_700_000_000_000;
  const { root, sensor } = places(() => [{ session: '2', idle: false, since: now - 3_600_000 }]);
  try {
    writeFileSync(join(root, 'devices'), KEYBOARD);
    writeFileSync(join(root, 'interrupts'), ' 1:  5  IO-APIC  1-edge  i8042\n');
    const eyes = sensor(true);
    eyes.look(now);
    assert.is(eyes.look(now + 600_000).idleMs, 600_000);
    eyes.close();
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('the display’s word is a sign; where its server sees every device of the seat, what is not seen otherwise bars nothing', () => {
  const now = 1_700_000_000_000;
  let said: { idleMs: number; all: boolean } | null = { idleMs: 1_000, all: true };
  const display = { look: () => said, refusal: null as string | null, close: () => {} };
  const { root, sensor } = places(() => [{ session: '2', idle: false, since: now - 3_600_000 }], display);
  try {
    writeFileSync(join(root, 'devices'), MOUSE);
    const eyes = sensor(true);
    assert.equal([eyes.look(now).idleMs, eyes.look(now).signal], [1_000, 'display']);
    said = { idleMs: 600_000, all: true };
    const away = eyes.look(now + 599_000 + 1_000);
    assert.is(away.idleMs, 600_000, 'its desktop never calls itself idle');
    assert.is(away.signal, 'display, logind');
    said = { idleMs: 600_000, all: false };
    assert.is(
      eyes.look(now + 601_000).idleMs,
      0,
      'a mouse that this server may not see: the desktop decides',
    );
    said = null;
    display.refusal = 'Authorization required';
    assert.ok(
      eyes
        .look(now + 602_000)
        .signals.some(
          ({ name, says }) => name === 'display' && says === 'cannot be asked: Authorization required',
        ),
    );
    eyes.close();
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('typing on a terminal of the kernel is a sign within two looks, output on it is none', async () => {
  const typist = spawn('python3', ['-u', '-c', TYPIST], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const lines = createInterface({ input: typist.stdout })[Symbol.asyncIterator]();
    const pts = String((await lines.next()).value);
    // As if it had been used long ago: the kernel gives it the present again when it is read from.
    const { root } = places();
    const eyes = new PresenceSensor({ dev: '/dev', interrupts: join(root, 'none'), seat: () => false });
    const old = Date.now() / 1000 - 3_600;
    utimesSync(pts, old, old);
    const idle = (): number => eyes.look(Date.now()).idleMs!;
    const others = idle();
    if (others < 20_000) {
      console.log('skipped: somebody types on another terminal of this machine');
      return;
    }
    typist.stdin.write('print\n');
    await lines.next();
    assert.ok(idle() > 20_000, 'output is no sign of a person');
    typist.stdin.write('type\n');
    await lines.next();
    assert.ok(idle() < 2_000, 'typing is');
    eyes.close();
    rmSync(root, { recursive: true });
  } finally {
    typist.stdin.end();
    await once(typist, 'close');
  }
});

/** Holds a pty whose other side is read as a shell reads it; types or prints when told, and says when that is done. */
const TYPIST = `
import os, sys, threading
master, slave = os.openpty()
print(os.ttyname(slave))
for line in sys.stdin:
    if line.strip() == 'type':
        os.write(master, b'x\\n')
        os.read(slave, 10)
    else:
        os.write(slave, b'hello')
        os.read(master, 10)
    print('done')
`;

test('a graphical session on a seat is a seat; ssh, a virtual display and nothing at all are none', () => {
  const { root } = places();
  try {
    const sessions = join(root, 'sessions');
    const displays = join(root, 'x11');
    const linux = { platform: 'linux', sessions, displays };
    assert.is(hasSeat(linux), false);
    mkdirSync(displays);
    writeFileSync(join(displays, 'X99'), '');
    assert.is(hasSeat(linux), false);
    writeFileSync(join(displays, 'X0'), '');
    assert.is(hasSeat(linux), true);
    mkdirSync(sessions);
    writeFileSync(join(sessions, '1'), 'UID=1000\nREMOTE=1\nTYPE=tty\nCLASS=user\n');
    assert.is(hasSeat(linux), false, 'logind knows better');
    writeFileSync(join(sessions, 'c1'), 'UID=120\nTYPE=wayland\nCLASS=greeter\nSEAT=seat0\n');
    assert.is(hasSeat(linux), true);
    assert.is(hasSeat({ ...linux, platform: 'darwin' }), true);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test.run();
