import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where the kernel names what a machine is fed by. */
const SUPPLIES = '/sys/class/power_supply';

/**
 * Whether this machine is fed by a battery: no mains are plugged in, and a battery of the machine itself (not of a mouse)
 * empties. Where the kernel names no supply at all, as on most desktops and servers, it is not.
 */
export function onBattery(supplies: string = SUPPLIES): boolean {
  let empties = false;
  for (const name of folders(supplies)) {
    const fact = (file: string): string => read(join(supplies, name, file));
    if (fact('scope') === 'Device') continue;
    const type = fact('type');
    if ((type === 'Mains' || type.startsWith('USB')) && Number(fact('online')) > 0) return false;
    if (type === 'Battery' && fact('present') !== '0' && fact('status') === 'Discharging') empties = true;
  }
  return empties;
}

function folders(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
