import type { TaskSpec } from '../../protocol/task.ts';
import type { CommitWords, Taken } from '../git/attempt-repository.ts';
import { GITLINK, newGitlink } from '../git/changes.ts';
import { printable } from '../git/fault.ts';
import type { Checkout } from './checkout.ts';
import type { AttemptContext } from './context.ts';
import { AttemptFailure } from './failure.ts';
import { SecretSearch } from './secrets.ts';

/** What the task made of its workspace, as one commit; may be asked for again, and then takes the place of the one before. */
export async function take(
  context: AttemptContext,
  checkout: Checkout,
  meanwhile: () => void,
): Promise<Taken> {
  const { assignment, signal } = context;
  if (checkout.repository === null) return { changes: [], commit: null, bundle: null };
  const taken = await checkout.repository.take(
    commitWords(context),
    Math.floor(context.time() / 1000),
    assignment.spec.limits.workspaceBytes,
    meanwhile,
    signal,
  );
  const gitlink = newGitlink(taken.changes);
  if (gitlink !== null) {
    const path = printable(gitlink.path.toString('utf8')).slice(0, 512);
    throw new AttemptFailure(
      'task',
      'task',
      `the task left a git repository of its own at ${path}, which cannot be part of a commit. Remove ${path}/.git at the end of the command.`,
    );
  }
  await refuseSecrets(context, checkout, taken);
  return taken;
}

/** A secret's value in what would be returned: nothing is. */
async function refuseSecrets(context: AttemptContext, checkout: Checkout, taken: Taken): Promise<void> {
  const search = new SecretSearch(context.assignment.secrets);
  if (!search.needed || taken.commit === null) return;
  for (const change of taken.changes) search.push(Buffer.concat([change.path, Buffer.of(0)]));
  const objects = taken.changes
    .filter((change) => change.status !== 'D' && change.modeAfter !== GITLINK)
    .map((change) => change.objectAfter);
  if (objects.length > 0) {
    await checkout.repository?.contents(objects, (bytes) => search.push(bytes), context.signal);
  }
  if (search.found === null) return;
  throw new AttemptFailure(
    'task',
    'task',
    `the changes hold the value of the secret ${search.found}, so nothing of them is returned`,
  );
}

/** Length of a commit's first line that git's own tools show whole. */
const subjectLengthMax = 72;

export function commitWords({ assignment: { spec, task }, member: { name } }: AttemptContext): CommitWords {
  const line = printable(titleOf(spec)).trim();
  const subject = line.length > subjectLengthMax ? `${line.slice(0, subjectLengthMax - 1)}…` : line;
  return {
    message: `${subject || 'superfleet'}\n\nSuperfleet-Task: ${task}`,
    name: `Superfleet (${name})`,
    email: `${name}@superfleet.invalid`,
  };
}

/** What a task does, in a line. */
const titleOf = (spec: TaskSpec): string =>
  spec.kind === 'command' ? shown(spec.argv) : (spec.code.goal.trim().split('\n')[0] ?? '');

/** argv as a person would type it. */
export const shown = (argv: readonly string[]): string =>
  argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
