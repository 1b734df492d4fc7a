import { readPolicy } from './policy.ts';
import type { Assignment, Capacity } from './session.ts';

/** What an owner accepts, as a member tells its founder; a list that is absent accepts all. */
export type Terms = NonNullable<Capacity['accepts']>;

/** What is asked of a machine, as far as its owner may decline it. */
export interface Asked {
  kind: string;
  /** The name of whoever sent the task; null: nobody says, which no list of names accepts. */
  sender: string | null;
}

/** The terms of a policy, all of which must be met; null: it has none. Pure. */
export function termsOf(policy: string): Terms | null {
  const terms: Terms = {};
  for (const condition of readPolicy(policy)) {
    if (condition.kind === 'kinds') terms.kinds = both(terms.kinds, condition.kinds);
    if (condition.kind === 'submitters') terms.submitters = both(terms.submitters, condition.names);
  }
  return terms.kinds === undefined && terms.submitters === undefined ? null : terms;
}

const both = (held: string[] | undefined, named: readonly string[]): string[] =>
  held === undefined ? [...named] : held.filter((one) => named.includes(one));

/** Why a machine of these terms is not given what is asked, to be read after its name; null: they are met. `whose`: who set them. Pure. */
export function declined(
  terms: Terms | undefined,
  { kind, sender }: Asked,
  whose = 'its owner’s policy',
): string | null {
  if (terms?.kinds !== undefined && !terms.kinds.includes(kind)) {
    return `accepts no task of kind ${kind} (${whose}: ${listed(terms.kinds)})`;
  }
  if (terms?.submitters !== undefined && (sender === null || !terms.submitters.includes(sender))) {
    return `accepts no task of ${sender ?? 'a submitter who is not named'} (${whose} names others)`;
  }
  return null;
}

const listed = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '));

/** What an execution may take by its time-outs, in ms: its command or goal, and the checks. Pure. */
export const longestMs = ({
  timeoutMs,
  checkTimeoutMs,
  checks,
}: Pick<Assignment['spec'], 'timeoutMs' | 'checkTimeoutMs' | 'checks'>): number =>
  timeoutMs + checks.length * checkTimeoutMs;
