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
  /** It runs on a battery. @default false */
  battery?: boolean;
  /** What others take of its processors, in percent; null: not known yet. @default null */
  load?: number | null;
}

/** Whether a machine may work now, and why, as its owner reads it. */
export interface Verdict {
  holds: boolean;
  why: string;
  /** For the founder and whoever asks it: what is in force, and nothing of what the owner does. Null: it holds. */
  told: string | null;
  /** What bars may be over in a moment: what runs is suspended first. @default false */
  brief?: boolean;
}

/** One condition, judged. `mesh`: the mesh's default asks it, whatever the owner says. */
export interface Judged {
  condition: string;
  mesh: boolean;
  verdict: Verdict;
}

/** Characters of an unknown word that the founder is told: the protocol bounds the whole sentence. */
const TOLD_WORD_MAX = 64;

/** Whether all conditions of a policy hold now; one that does not says why. `mesh`: the mesh's part of it. Pure. */
export function judge(policy: string, moment: Moment, mesh: string | null = null): Verdict {
  const verdicts = judgeEach(policy, moment, mesh).map(({ verdict }) => verdict);
  // What lasts goes before what may be over in a moment.
  const bars = verdicts.filter(({ holds }) => !holds);
  const bar = bars.find(({ brief }) => brief !== true) ?? bars[0];
  if (bar !== undefined) return bar;
  const said = verdicts.map(({ why }) => why).filter((why) => why !== '');
  return { holds: true, why: said.join('; '), told: null };
}

/** Its conditions one by one, in the order written. Pure. */
export function judgeEach(policy: string, moment: Moment, mesh: string | null = null): Judged[] {
  const words = policy.split(',');
  const asked = wordsOf(mesh);
  return readPolicy(policy).map((condition, at) => ({
    condition: words[at]!,
    mesh: asked.includes(words[at]!),
    verdict: judgeOne(condition, moment, asked.includes(words[at]!)),
  }));
}

function judgeOne(condition: PolicyCondition, moment: Moment, mesh: boolean): Verdict {
  switch (condition.kind) {
    case 'always':
      return { holds: true, why: '', told: null };
    case 'idle':
      return judgeIdle(condition.ms, moment);
    case 'hours':
      return judgeHours(condition, moment, mesh);
    case 'on-mains':
      return moment.battery
        ? {
            holds: false,
            why: 'it runs on its battery',
            told: 'runs on its battery (policy on-mains)',
            brief: true,
          }
        : { holds: true, why: 'it is fed by the mains', told: null };
    case 'load':
      return judgeLoad(condition.percent, moment.load ?? null);
    case 'kinds':
    case 'submitters':
      // Not about when it works: `terms.ts`.
      return { holds: true, why: '', told: null };
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
      ? { holds: false, why: 'somebody may sit here, and nothing tells whether they do', told, brief: true }
      : { holds: true, why: 'nobody can sit here', told: null };
  }
  const by = signal === null ? '' : ` (${signal})`;
  if (idleMs >= ms) return { holds: true, why: `nobody was here for ${lasting(idleMs)}${by}`, told: null };
  const when = idleMs < 5_000 ? 'now' : `${lasting(idleMs)} ago`;
  return {
    holds: false,
    why: `somebody was here ${when}${by}; it waits for ${formatDuration(ms)}`,
    told,
    brief: true,
  };
}

function judgeLoad(percent: number, load: number | null): Verdict {
  const told = `is busy with what its owner runs (policy load=${percent}%)`;
  if (load === null)
    return { holds: false, why: 'what others take of the processors is not known yet', told, brief: true };
  const took = `others take ${Math.round(load)}% of the processors`;
  return load < percent
    ? { holds: true, why: took, told: null }
    : { holds: false, why: `${took}; it waits for less than ${percent}%`, told, brief: true };
}

type Hours = Extract<PolicyCondition, { kind: 'hours' }>;

function judgeHours(hours: Hours, { day, minute }: Moment, mesh: boolean): Verdict {
  const { from, to, days } = hours;
  const inside = isInside(hours, day, minute);
  const at = `${DAYS[day]} ${clock(minute)}`;
  const window = `${clock(from)}-${clock(to)}${days === null ? '' : `@${days.map((one) => DAYS[one]).join('+')}`}`;
  if (inside) return { holds: true, why: `${at} is within ${window}`, told: null };
  return {
    holds: false,
    why: `${at} is outside ${window}`,
    told: `works only at ${mesh ? 'the mesh’s' : 'its owner’s'} hours (${window}, by its clock)`,
  };
}

/** Minutes from now until the first of its windows closes; null: none is open that closes. Pure. */
export function closesInMinutes(
  policy: string,
  { day, minute }: Pick<Moment, 'day' | 'minute'>,
): number | null {
  const closings = readPolicy(policy).flatMap((condition) => {
    if (condition.kind !== 'hours' || !isInside(condition, day, minute)) return [];
    // Windows that meet are one: it closes where the next minute is outside.
    for (let later = 1; later <= WEEK_MINUTES; later += 1) {
      const at = minute + later;
      if (!isInside(condition, (day + Math.floor(at / DAY_MINUTES)) % 7, at % DAY_MINUTES)) return [later];
    }
    return [];
  });
  return closings.length === 0 ? null : Math.min(...closings);
}

const DAY_MINUTES = 1440;
const WEEK_MINUTES = 7 * DAY_MINUTES;

function isInside({ from, to, days }: Hours, day: number, minute: number): boolean {
  const begins = (on: number): boolean => days === null || days.includes(on);
  if (from < to) return begins(day) && minute >= from && minute < to;
  return (begins(day) && minute >= from) || (begins((day + 6) % 7) && minute < to);
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

const wordsOf = (text: string | null): string[] => (text ?? '').split(',').filter((word) => word !== '');

/** Who says when a machine works; null: nothing. */
export interface Said {
  owner: string | null;
  invite: string | null;
  /** The mesh's default for all machines. */
  mesh: string | null;
}

/**
 * The policy in force: all that is said, together, so that nobody's word takes a condition of another's away. Where neither owner
 * nor invite says anything the machine's own default stands for theirs. Pure.
 */
export function policyInForce(
  { owner, invite, mesh }: Said,
  seat: boolean,
): { policy: string; from: string } {
  const own = ownPolicy(owner, invite, seat);
  const strict = [...new Set([...wordsOf(mesh), ...wordsOf(own.policy)])].filter((word) => word !== 'always');
  if (wordsOf(mesh).every((word) => word === 'always')) return own;
  const from = own.policy === 'always' ? 'the mesh' : `${own.from}, and the mesh`;
  return { policy: strict.join(','), from };
}

function ownPolicy(
  owner: string | null,
  invite: string | null,
  seat: boolean,
): { policy: string; from: string } {
  const both = [...new Set([...wordsOf(invite), ...wordsOf(owner)])];
  const strict = both.filter((word) => word !== 'always');
  if (both.length > 0) {
    const from = owner === null ? 'the invite' : invite === null ? 'its owner' : 'its owner and the invite';
    return { policy: strict.length > 0 ? strict.join(',') : 'always', from };
  }
  return seat
    ? { policy: 'idle', from: 'default where somebody may sit at a screen' }
    : { policy: 'always', from: 'default where there is no screen' };
}
