import { resolve } from 'node:path';
import { asSuperfleetError, EXIT, SuperfleetError } from '../../protocol/errors.ts';
import type { Client } from '../api/client.ts';
import type { AsOf, TaskDetail, TaskObject } from '../api/objects.ts';
import type { Arrival } from '../submit/arrival.ts';
import type { Repository } from '../submit/repository.ts';
import { Fetching } from './fetching.ts';
import { cell, stateWords, taskText } from './render.ts';
import type { Delivery } from './send-grammar.ts';
import { type Session, show } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';
import { isTerminal } from './watch.ts';

/** The repository a task was sent from, and its result on the way there. */
export interface Awaited {
  repository: Repository;
  arrival: Arrival;
}

/** `task get`: places what a task that has ended gave. */
export async function getResult(
  command: Extract<TaskCommand, { verb: 'task get' }>,
  session: Session,
  client: Client,
): Promise<number> {
  const { voice } = session;
  const task = await client.get<TaskDetail & { asOf?: AsOf }>(`/v1/tasks/${command.task}`);
  if (task.asOf !== undefined) return getFromCopy(session, task);
  if (!isTerminal(task.state)) {
    throw new SuperfleetError('SF_CONFLICT', `task ${task.id} has not ended`, {
      expected: 'a task that has ended',
      got: task.state,
      hint: `${session.typed} task logs -f ${task.id} waits for it`,
    });
  }
  const placed = await deliver(command, session, task);
  if (voice.json) voice.document(task);
  else for (const line of placed) voice.out(line);
  return EXIT.ok;
}

/** What a replica's copy tells of a task; its branch and artifacts are with the founder. */
function getFromCopy(session: Session, task: TaskDetail): number {
  show(session, task, (told, paint) => taskText(told, paint, session.typed));
  if (task.bundle === null && task.artifacts.length === 0) return EXIT.ok;
  throw new SuperfleetError('SF_UNREACHABLE', `what task ${task.id} gave lies with the founder`, {
    expected: 'a founder that answers',
    got: 'a copy of the log, which has no branches and no artifacts',
    hint: `when it answers again: ${session.typed} task get ${task.id}`,
  });
}

/** Places branch and artifacts of a task that has ended; says in lines what lies where. */
export async function deliver(
  wish: Delivery,
  session: Session,
  task: TaskDetail,
  awaited: Awaited | null = null,
): Promise<string[]> {
  const lines: string[] = [];
  const { terminal } = session;
  using fetching = new Fetching(session, task);
  const { client } = fetching;
  if (task.commit !== null && task.bundle !== null && wish.repo !== false) {
    const repository = awaited?.repository ?? (await repositoryFor(task, wish.repo, session));
    if (repository !== null) {
      const { placeBranch } = await import('../submit/place.ts');
      const work = { client, env: terminal.env, signal: terminal.signal };
      const branch =
        awaited === null
          ? await placeBranch(repository, givenOf(task), work, wish.force)
          : await awaited.arrival.place(givenOf(task), wish.force);
      lines.push(`branch ${branch} at ${task.commit.slice(0, 12)} in ${repository.folder}`);
      await attach(repository, task, session, client);
    }
  } else if (task.state === 'delivered' && task.commit === null && task.spec.repository !== null) {
    lines.push('it changed no file: no branch');
  }
  if (task.artifacts.length > 0) {
    const { placeArtifacts } = await import('../submit/artifacts.ts');
    const folder = resolve(terminal.cwd, wish.output ?? `mesh-${task.id}`);
    const written = await placeArtifacts(client, task.artifacts, folder, wish.force, terminal.signal);
    for (const path of written) lines.push(`artifact ${cell(path)}`);
  }
  const asked = task.spec.artifacts;
  if (task.state === 'delivered' && asked.length > 0 && task.artifacts.length === 0) {
    lines.push(`no artifact: when the command had ended, no file matched ${cell(asked.join(' '))}`);
  }
  if (task.state === 'delivered' && !task.verified) {
    const why = task.detail ?? 'unverified: nobody but the executor says so';
    lines.push(`${cell(why)} (confidence ${cell(task.confidence)})`);
  }
  return lines;
}

/** The receipt as a note on the placed commit. The result is there without it, so what goes wrong is only said. */
async function attach(
  repository: Repository,
  task: TaskDetail,
  { terminal: { env, signal }, typed, voice }: Session,
  client: Client,
): Promise<void> {
  const { attachReceipt } = await import('../submit/note.ts');
  try {
    await attachReceipt(repository, givenOf(task), { client, env, signal });
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    const why = cell(asSuperfleetError(thrown).message);
    voice.note(
      `the receipt is not in the commit’s note (${why}); it is here: ${typed} receipt show ${task.id}`,
    );
  }
}

/** The repository a result belongs in; null for a task that had none, where none is named. */
async function repositoryFor(
  task: TaskDetail,
  named: string | null,
  session: Session,
): Promise<Repository | null> {
  if (named === null && task.spec.repository === null) return null;
  const { openRepository } = await import('../submit/repository.ts');
  return openRepository(named, surroundings(session));
}

/** `task diff`: the patch. */
export async function diff(
  command: Extract<TaskCommand, { verb: 'task diff' }>,
  session: Session,
  client: Client,
): Promise<number> {
  const { terminal, voice } = session;
  const task = await client.get<TaskDetail>(`/v1/tasks/${command.task}`);
  if (task.commit === null || task.bundle === null) {
    if (!isTerminal(task.state) && task.state !== 'executed') throw noResult(task);
    voice.note(
      task.partial == null
        ? `${task.id} changed no file`
        : `${task.id} gave no result; its part is kept: ${session.typed} task continue ${task.id} [TEXT]`,
    );
    if (voice.json) voice.document({ task: task.id, base: task.base, commit: null, patch: '' });
    return EXIT.ok;
  }
  const { patchOf } = await import('../submit/place.ts');
  const repository = await repositoryFor(task, command.repo, session);
  const work = { client, env: terminal.env, signal: terminal.signal };
  const patch = patchOf(repository, givenOf(task), work);
  if (!voice.json) await voice.output(patch);
  else {
    const whole: Uint8Array[] = [];
    for await (const bytes of patch) whole.push(bytes);
    const text = Buffer.concat(whole).toString('utf8');
    voice.document({ task: task.id, base: task.base, commit: task.commit, patch: text });
  }
  return EXIT.ok;
}

/** `task apply`: takes the result into the branch that is checked out. */
export async function apply(
  command: Extract<TaskCommand, { verb: 'task apply' }>,
  session: Session,
  client: Client,
): Promise<number> {
  const { terminal, voice } = session;
  const task = await client.get<TaskDetail>(`/v1/tasks/${command.task}`);
  if (task.state !== 'delivered' || task.commit === null || task.bundle === null) throw noResult(task);
  const [{ openRepository }, { placeBranch }, { applyResult }] = await Promise.all([
    import('../submit/repository.ts'),
    import('../submit/place.ts'),
    import('../submit/apply.ts'),
  ]);
  if (!task.verified) voice.note('note: this result is unverified; only its executor vouches for it');
  if (task.doubt != null) voice.note(`note: ${task.doubt}`);
  const repository = await openRepository(command.repo, surroundings(session));
  const given = givenOf(task);
  await placeBranch(repository, given, { client, env: terminal.env, signal: terminal.signal }, command.force);
  await attach(repository, task, session, client);
  const { env, signal } = terminal;
  const done = await applyResult(repository, given, command.how, command.force, env, signal);
  const after = await client.post<TaskDetail>(`/v1/tasks/${task.id}/applied`, { commit: task.commit });
  show(session, { ...after, ...done }, () =>
    done.already
      ? `${done.how}: ${task.id} is in already, HEAD stays at ${done.head.slice(0, 12)}`
      : `${done.how}: ${task.id} is in, HEAD is now ${done.head.slice(0, 12)}`,
  );
  return EXIT.ok;
}

/** Where a person types. */
export const surroundings = ({ terminal }: Session) => ({
  cwd: terminal.cwd,
  env: terminal.env,
  signal: terminal.signal,
});

/** The commit a task gave, and the bundle it lies in. */
export function givenOf(task: TaskDetail) {
  if (task.commit === null || task.bundle === null) throw noResult(task);
  return {
    task: task.id,
    base: task.spec.repository?.base ?? null,
    commit: task.commit,
    bundle: task.bundle,
    source:
      task.baseBundle && task.spec.repository
        ? { blob: task.baseBundle.bundle, name: task.spec.repository.name }
        : null,
  };
}

const noResult = (task: TaskObject): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', `task ${task.id} has given no commit`, {
    expected: 'a task that is delivered and changed something',
    got: stateWords(task),
  });
