import { realpathSync } from 'node:fs';
import { EXIT } from '../../protocol/errors.ts';
import type { RepositoryBundle, RepositoryInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { TaskDetail, TaskObject } from '../api/objects.ts';
import type { SpecToSend } from '../submit/from-manifest.ts';
import type { Submitted } from '../submit/post-task.ts';
import type { Repository } from '../submit/repository.ts';
import type { Told } from '../submit/submit.ts';
import { cell } from './render.ts';
import type { Delivery, SendCommand, Shared } from './send-grammar.ts';
import type { Session } from './session.ts';
import { type Awaited, deliver, givenOf, surroundings } from './task-results.ts';
import { askedOf, specOf } from './task-spec.ts';
import { lastLines } from './waiting.ts';
import { waitFor } from './watch.ts';

/** Sends the one task that is typed, or with `--dry-run` only asks what would come of it. Answers the exit code. */
export async function sendTask(command: SendCommand, session: Session, client: Client): Promise<number> {
  const spec = specOf(command);
  const asked = askedOf(command);
  const { quotedCommandNote } = await import('./submission-notes.ts');
  const quoted = command.verb === 'task run' ? quotedCommandNote(command.wishes.argv) : null;
  if (quoted !== null) session.voice.note(quoted);
  if (command.dryRun) {
    const { askDryRun, tellDryRun } = await import('./dry-run.ts');
    const { result } = await overRepository(command, session, client, [spec], ([only]) =>
      askDryRun(client, only!, asked),
    );
    return tellDryRun(session, result, command.allowWaiting);
  }
  const { postTask } = await import('../submit/post-task.ts');
  const { result, repository } = await overRepository(command, session, client, [spec], ([only], bundle) =>
    postTask(client, { spec: only!, bundle }, asked),
  );
  notesOf(session, result, command.wait);
  if (!command.wait || repository === null) return finish(command, session, client, result, null);
  const { terminal } = session;
  const { Arrival } = await import('../submit/arrival.ts');
  using arrival = new Arrival(repository, { client, env: terminal.env, signal: terminal.signal });
  // Awaited here: on return the arrival is disposed of.
  return await finish(command, session, client, result, { repository, arrival });
}

/** Gives `post` the specs as they are on the repository that was named, and its bundle; nothing of it is sent for `--dry-run`. */
export async function overRepository<T>(
  command: Shared & { dryRun?: boolean },
  session: Session,
  client: Client,
  specs: readonly SpecToSend[],
  post: (specs: readonly SpecToSend[], bundle: RepositoryBundle | null) => Promise<T>,
): Promise<{ result: T; repository: Repository | null }> {
  const { terminal, voice } = session;
  const unchecked = (checks: readonly string[]): void => {
    if (specs[0]?.kind === 'code' && checks.length === 0) voice.note(UNCHECKED);
  };
  if (command.repo === false) {
    unchecked(specs[0]?.checks ?? []);
    return { result: await post(specs, null), repository: null };
  }
  const [{ openRepository }, { submitAll }, { sendingProgress, submissionNotes }] = await Promise.all([
    import('../submit/repository.ts'),
    import('../submit/submit.ts'),
    import('./submission-notes.ts'),
  ]);
  const repository = await openRepository(command.repo, surroundings(session));
  const submission = {
    client,
    env: terminal.env,
    signal: terminal.signal,
    includeDirty: command.includeDirty,
    upload: command.dryRun !== true,
    onInput: (input: RepositoryInput, told: Told) => {
      const below = command.repo === null && repository.folder !== realpathSync(terminal.cwd);
      for (const line of submissionNotes(input, told, below)) voice.note(line);
      unchecked(told.checks);
    },
    onProgress: terminal.stderr.isTTY === true && !voice.json ? sendingProgress(voice) : undefined,
  };
  const result = await submitAll(repository, command.ref ?? 'HEAD', specs, submission, post);
  voice.clear();
  return { result, repository };
}

function notesOf({ voice, typed }: Session, { id, twin, waits }: Submitted, waited: boolean): void {
  if (twin != null) {
    const how = `${typed} task stop ends one; --once refuses another`;
    voice.note(`note: the same task is open already: ${cell(twin)} (${how})`);
  }
  // Who waits for its end is told as it waits.
  if (waits != null && !waited) voice.note(`note: it waits: ${cell(waits)} (${typed} task why ${id})`);
}

/** Says the id; where asked to, waits for the end and brings the result. */
export async function finish(
  command: { wait: boolean; follow: boolean } & Delivery,
  session: Session,
  client: Client,
  made: TaskObject,
  awaited: Awaited | null,
): Promise<number> {
  const { voice, terminal } = session;
  // Whoever reads the id may interrupt at once: that is heard from here on.
  if (command.wait) terminal.signal.throwIfAborted();
  if (!voice.json) voice.out(made.id);
  else if (!command.wait) voice.document(made);
  else if (command.follow) voice.document({ event: 'submitted', task: made.id });
  if (!command.wait) return EXIT.ok;
  const task = await endOf(command, session, client, made.id, awaited);
  if (voice.json) voice.document(task);
  return task.state === 'delivered' ? EXIT.ok : EXIT.taskFailed;
}

/** Waits for the end of a task, brings what it gave, and says how it ended. */
export async function endOf(
  command: { follow: boolean } & Delivery,
  session: Session,
  client: Client,
  id: string,
  awaited: Awaited | null,
): Promise<TaskDetail> {
  const { voice, typed, terminal } = session;
  const { signal } = terminal;
  const task = await waitFor(session, client, id, command.follow, (now) => {
    if (now.state === 'executed' && now.commit !== null && now.bundle !== null)
      awaited?.arrival.expect(givenOf(now));
  });
  if (task.state === 'delivered')
    for (const line of await deliver(command, session, task, awaited)) voice.note(line);
  else {
    const tail =
      command.follow || voice.json || task.log === null ? '' : await lastLines(client, task.id, signal);
    if (tail !== '') voice.note(tail.replace(/^/gm, '  | '));
    if (task.detail !== null) voice.note(cell(task.detail));
    const { causeNote } = await import('./submission-notes.ts');
    const cause = causeNote(tail);
    if (cause !== null) voice.note(cause);
    if (task.log !== null) voice.note(`all of its output: ${typed} task logs ${task.id}`);
    if (task.partial != null) voice.note(`to go on with it: ${typed} task continue ${task.id} [TEXT]`);
  }
  return task;
}

const UNCHECKED =
  "note: without --check nothing but the model's word says that it is done, and nobody verifies it";
