import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where a machine says who is logged in, and how. */
export interface SeatPlaces {
  platform: string;
  /** logind's word on each session, one file each, readable by everybody. */
  sessions: string;
  /** Sockets of X servers, for machines without logind. */
  displays: string;
}

const PLACES: SeatPlaces = {
  platform: process.platform,
  sessions: '/run/systemd/sessions',
  displays: '/tmp/.X11-unix',
};

/**
 * Whether somebody may sit at a screen of this machine: a graphical session on a seat, the login screen included. Mac and
 * Windows are taken to have one. A virtual display of a test (`:99`) is none.
 */
export function hasSeat({ platform, sessions, displays }: SeatPlaces = PLACES): boolean {
  if (platform !== 'linux') return true;
  const known = names(sessions);
  if (known === null || known.length === 0) {
    return (names(displays) ?? []).some((name) => /^X\d$/.test(name));
  }
  return known.some((name) => {
    try {
      const said = readFileSync(join(sessions, name), 'utf8');
      return /^SEAT=./m.test(said) && /^TYPE=(x11|wayland|mir)$/m.test(said);
    } catch {
      // A session that ended meanwhile, or a pipe beside the files: no word on a seat.
      return false;
    }
  });
}

const names = (folder: string): string[] | null => {
  try {
    return readdirSync(folder).filter((name) => !name.endsWith('.ref'));
  } catch {
    return null;
  }
};
