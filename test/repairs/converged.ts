import * as assert from 'uvu/assert';
import type { Repair } from './repair.ts';
import type { Repaired } from './workbench.ts';

/** Its check was red, and what came back makes it green; files, turns and heals are those that there were, whatever was said. */
export function converged(repair: Repair, { result, receipt, log, changed }: Repaired): void {
  assert.equal([result.outcome, result.reason, result.detail], ['succeeded', null, null], log);
  assert.equal(changed, repair.changed);
  const before = log.slice(0, log.indexOf('superfleet: turn 1'));
  assert.match(before, /check 1 of 1: exit [1-9]/, 'it was red before');
  const { turns, heals, files } = receipt!.work!;
  assert.equal(
    { turns, heals, files, checks: receipt!.checks },
    {
      turns: repair.turns ?? repair.answers.length,
      heals: repair.heals ?? 0,
      files: repair.changed.length,
      checks: [{ line: repair.check, exitCode: 0 }],
    },
  );
}
