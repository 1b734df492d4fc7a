import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Entry } from '../../ledger/entry.ts';
import { asSuperfleetError, EXIT, SuperfleetError } from '../../protocol/errors.ts';
import type { CodeSpecInput, CommandSpecInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { AsOf, Page, TaskDetail, TaskObject } from '../api/objects.ts';
import type { Arrival } from '../submit/arrival.ts';
import type { Repository } from '../submit/repository.ts';
import { Fetching } from './fetching.ts';
import { logs } from './logs.ts';
import { writeOutput } from './output.ts';
import { cell, historyText, stateWords, table, tasksText, taskText } from './render.ts';
import type { Delivery, SendCommand, TaskWishes } from './send-grammar.ts';
import { type Session, show } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';
import { lastLines, type Why } from './waiting.ts';
import { isTerminal, waitFor } from './watch.ts';

/** Runs a verb that both bins have; answers its exit code. Git and its library are loaded only where needed. */
export async function runTaskCommand(command: TaskCommand, session: Session): Promise<number> {
  const { voice } = session;
  if (command.verb === 'receipt verify')
    return (await import('./receipt.ts')).verifyReceipt(command, session);
  const client = session.client('correlation' in command ? command.correlation : null);
  const path = 'task' in command ? `/v1/tasks/${command.task}` : '/v1/tasks';
  switch (command.verb) {
    case 'task run':
    case 'task code':
      return sendTask(command, session, client);
    case 'task rerun': {
      const made = await client.post<TaskObject>(`${path}/rerun`);
      return finish(command, session, client, made, null);
    }
    case 'task continue': {
      const made = await client.post<TaskObject>(`${path}/continue`, { text: command.text });
      return finish(command, session, client, made, null);
    }
    case 'task list': {
      const query = new URLSearchParams({ limit: String(command.limit) });
      if (command.states !== null) query.set('state', command.states.join(','));
      if (command.cursor !== null) query.set('cursor', command.cursor);
      const page = await client.get<Page<TaskObject>>(`/v1/tasks?${query}`);
      show(session, page, ({ items }, paint) => tasksText(items, paint));
      if (page.next !== null) voice.note(`more: --cursor ${cell(page.next)}`);
      return EXIT.ok;
    }
    case 'task describe':
      show(session, await client.get<TaskDetail>(path), taskText);
      return EXIT.ok;
    case 'task stop':
      show(
        session,
        await client.post<TaskDetail>(`${path}/stop`),
        (task) => `${task.id} ${stateWords(task)}`,
      );
      return EXIT.ok;
    case 'task answer':
      show(
        session,
        await client.post<TaskDetail>(`${path}/answer`, { text: command.text }),
        (task) => `${task.id} ${stateWords(task)}`,
      );
      return EXIT.ok;
    case 'task logs':
      return logs(command, session, client);
    case 'task history':
      show(session, await client.get<Page<Entry>>(`${path}/history`), ({ items }) => historyText(items));
      return EXIT.ok;
    case 'task why':
      show(session, await client.get<Why>(`${path}/why`), whyText);
      return EXIT.ok;
    case 'task diff':
      return diff(command, session, client);
    case 'task apply':
      return apply(command, session, client);
    case 'task get': {
      const task = await client.get<TaskDetail & { asOf?: AsOf }>(path);
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
    case 'receipt show': {
      const bytes: Uint8Array[] = [];
      for await (const chunk of client.bytes(`${path}/receipt`)) bytes.push(chunk);
      await writeOutput(session, bytes, command.output);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

async function sendTask(command: SendCommand, session: Session, client: Client): Promise<number> {
  const { terminal, voice } = session;
  const spec = specOf(command);
  const { quotedCommandNote, sendingProgress, submissionNotes } = await import('./submission-notes.ts');
  const quoted = command.verb === 'task run' ? quotedCommandNote(command.wishes.argv) : null;
  if (quoted !== null) voice.note(quoted);
  const unchecked = (checks: readonly string[]): void => {
    if (command.verb === 'task code' && checks.length === 0) voice.note(UNCHECKED);
  };
  if (command.repo === false) {
    unchecked(spec.checks ?? []);
    const made = await client.post<TaskObject>('/v1/tasks', { spec, bundle: null });
    return finish(command, session, client, made, null);
  }
  const [{ openRepository }, { submit }, { Arrival }] = await Promise.all([
    import('../submit/repository.ts'),
    import('../submit/submit.ts'),
    import('../submit/arrival.ts'),
  ]);
  const repository = await openRepository(command.repo, surroundings(session));
  const made = await submit(repository, command.ref ?? 'HEAD', spec, {
    client,
    env: terminal.env,
    signal: terminal.signal,
    includeDirty: command.includeDirty,
    onInput: (input, told) => {
      const below = command.repo === null && repository.folder !== realpathSync(terminal.cwd);
      for (const line of submissionNotes(input, told, below)) voice.note(line);
      unchecked(told.checks);
    },
    onProgress: terminal.stderr.isTTY === true && !voice.json ? sendingProgress(voice) : undefined,
  });
  voice.clear();
  if (!command.wait) return finish(command, session, client, made, null);
  using arrival = new Arrival(repository, { client, env: terminal.env, signal: terminal.signal });
  // Awaited here: on return the arrival is disposed of.
  return await finish(command, session, client, made, { repository, arrival });
}

/** What a replica's copy tells of a task; its branch and artifacts are with the founder. */
function getFromCopy(session: Session, task: TaskDetail): number {
  show(session, task, taskText);
  if (task.bundle === null && task.artifacts.length === 0) return EXIT.ok;
  throw new SuperfleetError('SF_UNREACHABLE', `what task ${task.id} gave lies with the founder`, {
    expected: 'a founder that answers',
    got: 'a copy of the log, which has no branches and no artifacts',
    hint: `when it answers again: ${session.typed} task get ${task.id}`,
  });
}

/** The repository a task was sent from, and its result on the way there. */
interface Awaited {
  repository: Repository;
  arrival: Arrival;
}

/** Says the id; where asked to, waits for the end and brings the result. */
async function finish(
  command: { wait: boolean; follow: boolean } & Delivery,
  session: Session,
  client: Client,
  made: TaskObject,
  awaited: Awaited | null,
): Promise<number> {
  const { voice, typed, terminal } = session;
  // Asked for before the id is out: who sees it may press Ctrl-C at once.
  const { signal } = terminal;
  if (!voice.json) voice.out(made.id);
  else if (!command.wait) voice.document(made);
  else if (command.follow) voice.document({ event: 'submitted', task: made.id });
  if (!command.wait) return EXIT.ok;
  const task = await waitFor(session, client, made.id, command.follow, (now) => {
    if (now.state === 'executed' && now.commit !== null && now.bundle !== null)
      awaited?.arrival.expect(givenOf(now));
  });
  const delivered = task.state === 'delivered';
  if (delivered) for (const line of await deliver(command, session, task, awaited)) voice.note(line);
  else {
    const tail =
      command.follow || voice.json || task.log === null ? '' : await lastLines(client, task.id, signal);
    if (tail !== '') voice.note(tail.replace(/^/gm, '  | '));
    if (task.detail !== null) voice.note(cell(task.detail));
    const { causeNote } = await import('./submission-notes.ts');
    const cause = causeNote(tail);
    if (cause !== null) voice.note(cause);
    if (task.log !== null) voice.note(`all of its output: ${typed} task logs ${task.id}`);
  }
  if (voice.json) voice.document(task);
  return delivered ? EXIT.ok : EXIT.taskFailed;
}

/** Places branch and artifacts of a task that has ended; says in lines what lies where. */
async function deliver(
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

async function diff(
  command: Extract<TaskCommand, { verb: 'task diff' }>,
  session: Session,
  client: Client,
): Promise<number> {
  const { terminal, voice } = session;
  const task = await client.get<TaskDetail>(`/v1/tasks/${command.task}`);
  if (task.commit === null || task.bundle === null) {
    if (!isTerminal(task.state) && task.state !== 'executed') throw noResult(task);
    voice.note(`${task.id} changed no file`);
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

async function apply(
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

const surroundings = ({ terminal }: Session) => ({
  cwd: terminal.cwd,
  env: terminal.env,
  signal: terminal.signal,
});

function givenOf(task: TaskDetail) {
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

const UNCHECKED =
  "note: without --check nothing but the model's word says that it is done, and nobody verifies it";

/** What is asked of the executor. */
function specOf(
  command: SendCommand,
): Omit<CommandSpecInput, 'repository'> | Omit<CodeSpecInput, 'repository'> {
  const shared = sharedOf(command.wishes);
  return command.verb === 'task run'
    ? { kind: 'command', argv: command.wishes.argv, ...shared }
    : { kind: 'code', code: command.wishes.code, ...shared };
}

/** Only what was asked for: the founder fills in its defaults. */
function sharedOf(wishes: TaskWishes): Omit<CommandSpecInput, 'repository' | 'kind' | 'argv'> {
  const limits = {
    ...(wishes.memoryBytes === null ? {} : { memoryBytes: wishes.memoryBytes }),
    ...(wishes.processes === null ? {} : { processes: wishes.processes }),
    ...(wishes.workspaceBytes === null ? {} : { workspaceBytes: wishes.workspaceBytes }),
  };
  return {
    ...(wishes.checks === null ? {} : { checks: wishes.checks }),
    ...(wishes.checkFiles === null ? {} : { checkFiles: wishes.checkFiles }),
    env: wishes.env,
    secrets: wishes.secrets,
    artifacts: wishes.artifacts,
    labels: wishes.labels,
    // Left out where nothing is asked, so that a founder of an older release takes the task.
    ...(wishes.model === null ? {} : { model: wishes.model }),
    ...(Object.keys(wishes.tools).length === 0 ? {} : { tools: wishes.tools }),
    on: wishes.on,
    requireVerified: wishes.requireVerified,
    limits,
    ...(wishes.timeoutMs === null ? {} : { timeoutMs: wishes.timeoutMs }),
    ...(wishes.checkTimeoutMs === null ? {} : { checkTimeoutMs: wishes.checkTimeoutMs }),
    ...(wishes.retries === null ? {} : { retries: wishes.retries }),
  };
}

/** The causes, then one line a machine: what did not match. */
function whyText({ state, reasons, members, remedies = [] }: Why): string {
  const lines = [`${cell(state)}: ${reasons.map(cell).join('; ') || 'a machine can take it'}`];
  if (members.length > 0)
    lines.push(
      table(
        ['NODE', 'WHY'],
        members.map(({ name, why }) => [cell(name), cell(why)]),
      ),
    );
  for (const remedy of remedies) lines.push(`try: ${cell(remedy)}`);
  return lines.join('\n');
}
