import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { SESSION_VERSION } from '../../protocol/session.ts';
import type { Inspect } from './session.ts';

const version = z.object({ major: z.int().nonnegative(), minor: z.int().nonnegative() });

/**
 * Refuses a session that does not begin with `type` (or goodbye) of a version we speak: the same major, and at most
 * one minor apart. The words name both versions, so that a person knows which machine to update.
 */
export function beginsWith(type: 'hello' | 'welcome', ours = SESSION_VERSION): Inspect {
  const [peer, self] = type === 'hello' ? ['the member', 'this founder'] : ['the founder', 'this member'];
  return (first) => {
    if (first.type === 'goodbye') return null;
    if (first.type !== type) {
      return new SuperfleetError('SF_FRAME', `a session begins with ${type}`, {
        expected: type,
        got: first.type,
      });
    }
    const theirs = version.safeParse(first.version);
    if (!theirs.success) {
      return new SuperfleetError('SF_FRAME', `the ${type} names no version`, {
        expected: 'version {major, minor}',
        got: String(JSON.stringify(first.version)).slice(0, 64),
      });
    }
    const { major, minor } = theirs.data;
    if (major === ours.major && Math.abs(minor - ours.minor) <= 1) return null;
    return new SuperfleetError('SF_VERSION', `${peer} speaks another version of the session protocol`, {
      expected: `${self} speaks ${ours.major}.${ours.minor} and serves one minor version older and newer`,
      got: `${major}.${minor}`,
      hint: 'install the same release of Superfleet on both machines',
    });
  };
}
