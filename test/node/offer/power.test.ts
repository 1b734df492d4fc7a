import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { onBattery } from '../../../node/offer/power.ts';

const MAINS = { type: 'Mains', online: '1' };
const UNPLUGGED = { type: 'Mains', online: '0' };
const EMPTIES = { type: 'Battery', present: '1', status: 'Discharging' };
const FULL = { type: 'Battery', present: '1', status: 'Full' };
const MOUSE = { type: 'Battery', scope: 'Device', present: '1', status: 'Discharging' };
const USB_C = { type: 'USB', online: '1' };

for (const [what, supplies, battery] of [
  ['a desktop that names no supply', [], false],
  ['a laptop at the mains', [MAINS, FULL], false],
  ['a laptop at the mains that draws more than they give', [MAINS, EMPTIES], false],
  ['an unplugged laptop', [UNPLUGGED, EMPTIES], true],
  ['a laptop that is fed by USB', [UNPLUGGED, USB_C, EMPTIES], false],
  ['a tablet without a word on mains', [EMPTIES], true],
  ['a desktop with the battery of a mouse', [MOUSE], false],
  ['an unplugged laptop whose battery is out', [UNPLUGGED, { ...EMPTIES, present: '0' }], false],
] as [string, Record<string, string>[], boolean][]) {
  test(`${what} ${battery ? 'runs on its battery' : 'does not run on a battery'}`, () => {
    const root = mkdtempSync(join(tmpdir(), 'superfleet-power-'));
    try {
      supplies.forEach((files, at) => {
        mkdirSync(join(root, `S${at}`));
        for (const [name, text] of Object.entries(files))
          writeFileSync(join(root, `S${at}`, name), `${text}\n`);
      });
      assert.is(onBattery(root), battery);
    } finally {
      rmSync(root, { recursive: true });
    }
  });
}

test('where there is no such folder, as in most containers, nothing runs on a battery', () => {
  assert.is(onBattery('/nonexistent/power_supply'), false);
});

test.run();
