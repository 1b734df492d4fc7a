import type { Entry } from '../../ledger/lines/entry.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { Page, TaskDetail, TaskObject } from '../api/objects.ts';
import { logs } from './logs.ts';
import { writeOutput } from './output.ts';
import { cell, historyText, stateWords, tasksText, taskText } from './render.ts';
import { type Session, show } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';
import { apply, diff, getResult } from './task-results.ts';
import { finish, sendTask } from './task-send.ts';
import type { Why } from './waiting.ts';
import { whyText } from './why-text.ts';

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
      if (command.matrix.length === 0) return sendTask(command, session, client);
      return (await import('./task-batch.ts')).sendMatrix(command, session, client);
    case 'task submit':
      return (await import('./task-batch.ts')).submitFile(command, session, client);
    case 'task rerun': {
      const made = await client.post<TaskObject>(`${path}/rerun`);
      return finish(command, session, client, made, null);
    }
    case 'task rerun --failed':
      return (await import('./rerun-failed.ts')).rerunFailed(command, session, client);
    case 'task continue': {
      const made = await client.post<TaskObject>(`${path}/continue`, { text: command.text });
      return finish(command, session, client, made, null);
    }
    case 'task list': {
      const query = new URLSearchParams({ limit: String(command.limit) });
      if (command.states !== null) query.set('state', command.states.join(','));
      if (command.ofCorrelation !== null) query.set('correlation', command.ofCorrelation);
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
      // What was found since is in no signed file.
      const { doubt } = await client.get<TaskDetail>(path);
      if (doubt != null) session.voice.note(`note: ${doubt}`);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}
