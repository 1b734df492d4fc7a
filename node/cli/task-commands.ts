import { realpathSync } from 'node:fs';
import type { Entry } from '../../ledger/entry.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { CodeSpecInput, CommandSpecInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { Page, TaskDetail, TaskObject } from '../api/objects.ts';
import type { Asked, Submitted } from '../submit/post-task.ts';
import { logs } from './logs.ts';
import { writeOutput } from './output.ts';
import { cell, historyText, stateWords, table, tasksText, taskText } from './render.ts';
import type { Delivery, SendCommand, TaskWishes } from './send-grammar.ts';
import { type Session, show, typedHere } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';
import { type Awaited, apply, deliver, diff, getResult, givenOf, surroundings } from './task-results.ts';
import { lastLines, type Why } from './waiting.ts';
import { waitFor } from './watch.ts';

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
      show(session, await client.get<TaskDetail>(path), (task, paint) =>
        taskText(task, paint, session.typed),
      );
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
      show(session, await client.get<Why>(`${path}/why`), (why) => whyText(why, session));
      return EXIT.ok;
    case 'task diff':
      return diff(command, session, client);
    case 'task apply':
      return apply(command, session, client);
    case 'task get':
      return getResult(command, session, client);
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
  const asked = askedOf(command);
  const { quotedCommandNote, sendingProgress, submissionNotes } = await import('./submission-notes.ts');
  const quoted = command.verb === 'task run' ? quotedCommandNote(command.wishes.argv) : null;
  if (quoted !== null) voice.note(quoted);
  const unchecked = (checks: readonly string[]): void => {
    if (command.verb === 'task code' && checks.length === 0) voice.note(UNCHECKED);
  };
  if (command.repo === false) {
    unchecked(spec.checks ?? []);
    const { postTask } = await import('../submit/post-task.ts');
    const made = await postTask(client, { spec, bundle: null }, asked);
    twinNote(session, made);
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
    asked,
    onInput: (input, told) => {
      const below = command.repo === null && repository.folder !== realpathSync(terminal.cwd);
      for (const line of submissionNotes(input, told, below)) voice.note(line);
      unchecked(told.checks);
    },
    onProgress: terminal.stderr.isTTY === true && !voice.json ? sendingProgress(voice) : undefined,
  });
  voice.clear();
  twinNote(session, made);
  if (!command.wait) return finish(command, session, client, made, null);
  using arrival = new Arrival(repository, { client, env: terminal.env, signal: terminal.signal });
  // Awaited here: on return the arrival is disposed of.
  return await finish(command, session, client, made, { repository, arrival });
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
    if (task.partial != null) voice.note(`to go on with it: ${typed} task continue ${task.id} [TEXT]`);
  }
  if (voice.json) voice.document(task);
  return delivered ? EXIT.ok : EXIT.taskFailed;
}

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

/** Left out where nothing is asked, so that a founder of an older release takes the task. */
const askedOf = ({ schedule, once }: SendCommand): Asked => ({
  ...(schedule === null ? {} : { schedule }),
  ...(once ? { once } : {}),
});

function twinNote({ voice, typed }: Session, { twin }: Submitted): void {
  if (twin == null) return;
  voice.note(
    `note: the same task is open already: ${twin} (${typed} task stop ends one; --once refuses another)`,
  );
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
function whyText({ state, reasons, members, remedies = [] }: Why, session: Session): string {
  const said = reasons.map(cell).join('; ') || 'a machine can take it';
  const lines = [said.startsWith(cell(state)) ? said : `${cell(state)}: ${said}`];
  if (members.length > 0)
    lines.push(
      table(
        ['NODE', 'WHY'],
        members.map(({ name, why }) => [cell(name), cell(why)]),
      ),
    );
  for (const remedy of remedies) lines.push(`try: ${cell(typedHere(session, remedy))}`);
  return lines.join('\n');
}
