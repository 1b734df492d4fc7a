import { formatDuration } from '../../protocol/duration.ts';
import { DAYS, type PolicyCondition, readPolicy } from '../../protocol/policy.ts';

/** What a policy is judged by: the machine's own clock, and what is known of its user. */
export interface Moment {
  /** By the local clock: day of the week (Sunday is 0) and minutes since midnight. */
  day: number;
  minute: number;
  /** Since the last sign of a person, in ms; null: there is nothing here that could give one. */
  idleMs: number | null;
  /** Where that sign was or is looked for, such as `terminals`; null: nowhere. */
  signal: string | null;
  /** Somebody could sit at this machine: what cannot be seen then counts as busy. */
  seat: boolean;
}

/** Whether a machine may work now, and why, as its owner reads it. */
export interface Verdict {
  holds: boolean;
  why: string;
  /** For the founder and whoever asks it: what is in force, and nothing of what the owner does. Null: it holds. */
  told: string | null;
}

/** Characters of an unknown word that the founder is told: the protocol bounds the whole sentence. */
const TOLD_WORD_MAX = 64;

/** Whether all conditions of a policy hold now; the first that does not says why. Pure. */
export function judge(policy: string, moment: Moment): Verdict {
  const verdicts = readPolicy(policy).map((condition) => judgeOne(condition, moment));
  const bar = verdicts.find(({ holds }) => !holds);
  if (bar !== undefined) return bar;
  const said = verdicts.map(({ why }) => why).filter((why) => why !== '');
  return { holds: true, why: said.join('; '), told: null };
}

function judgeOne(condition: PolicyCondition, moment: Moment): Verdict {
  switch (condition.kind) {
    case 'always':
      return { holds: true, why: '', told: null };
    case 'idle':
      return judgeIdle(condition.ms, moment);
    case 'hours':
      return judgeHours(condition, moment);
    case 'unknown':
      return {
        holds: false,
        why: `this release does not know ${condition.word}, so it never holds`,
        told: `does not know the condition ${condition.word.slice(0, TOLD_WORD_MAX)} of its policy`,
      };
    default:
      return condition satisfies never;
  }
}

function judgeIdle(ms: number, { idleMs, signal, seat }: Moment): Verdict {
  const told = 'is in use by its owner (policy idle)';
  if (idleMs === null) {
    return seat
      ? { holds: false, why: 'somebody may sit here, and nothing tells whether they do', told }
      : { holds: true, why: 'nobody can sit here', told: null };
  }
  const by = signal === null ? '' : ` (${signal})`;
  if (idleMs >= ms) return { holds: true, why: `nobody was here for ${lasting(idleMs)}${by}`, told: null };
  const when = idleMs < 5_000 ? 'now' : `${lasting(idleMs)} ago`;
  return { holds: false, why: `somebody was here ${when}${by}; it waits for ${formatDuration(ms)}`, told };
}

type Hours = Extract<PolicyCondition, { kind: 'hours' }>;

function judgeHours(hours: Hours, { day, minute }: Moment): Verdict {
  const { from, to, days } = hours;
  const begins = (on: number): boolean => days === null || days.includes(on);
  const yesterday = (day + 6) % 7;
  const inside =
    from < to
      ? begins(day) && minute >= from && minute < to
      : (begins(day) && minute >= from) || (begins(yesterday) && minute < to);
  const at = `${DAYS[day]} ${clock(minute)}`;
  const window = `${clock(from)}-${clock(to)}${days === null ? '' : `@${days.map((one) => DAYS[one]).join('+')}`}`;
  if (inside) return { holds: true, why: `${at} is within ${window}`, told: null };
  return {
    holds: false,
    why: `${at} is outside ${window}`,
    told: `works only at its owner’s hours (${window}, by its clock)`,
  };
}

const clock = (minute: number): string =>
  `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;

/** For people: whole seconds, minutes, hours or days, rounded down. */
function lasting(ms: number): string {
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1_000],
  ] as const;
  const [unit, size] = units.find(([, each]) => ms >= each) ?? units[3];
  return `${Math.floor(ms / size)} ${unit}`;
}

/** The policy in force: the mesh's and the owner's together, so that the owner's can only be stricter. Pure. */
export function policyInForce(
  owner: string | null,
  invite: string | null,
  seat: boolean,
): { policy: string; from: string } {
  const words = (text: string | null): string[] => (text ?? '').split(',').filter((word) => word !== '');
  const both = [...new Set([...words(invite), ...words(owner)])];
  const strict = both.filter((word) => word !== 'always');
  if (both.length > 0) {
    const from = owner === null ? 'the invite' : invite === null ? 'its owner' : 'its owner and the invite';
    return { policy: strict.length > 0 ? strict.join(',') : 'always', from };
  }
  return seat
    ? { policy: 'idle', from: 'default where somebody may sit at a screen' }
    : { policy: 'always', from: 'default where there is no screen' };
}
