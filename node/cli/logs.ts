import { EXIT } from '../../protocol/errors.ts';
import type { Client } from '../api/client.ts';
import type { TaskDetail } from '../api/objects.ts';
import { stateWords } from './render.ts';
import type { Session } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';
import { isTerminal } from './watch.ts';

/** `task logs`: the output, as it comes with `--follow`; where there is none, why. */
export async function logs(
  command: Extract<TaskCommand, { verb: 'task logs' }>,
  session: Session,
  client: Client,
): Promise<number> {
  const { terminal, voice } = session;
  const path = `/v1/tasks/${command.task}`;
  const log = client.bytes(`${path}/log?follow=${command.follow ? 1 : 0}`, terminal.signal);
  if (!voice.json) {
    let empty = true;
    await voice.output(
      (async function* () {
        for await (const bytes of log) {
          empty = false;
          yield bytes;
        }
      })(),
    );
    if (empty) voice.note(await whyNoOutput(client, path));
    return EXIT.ok;
  }
  const decoder = new TextDecoder();
  let text = '';
  for await (const bytes of log) {
    const piece = decoder.decode(bytes, { stream: true });
    if (command.follow) voice.document({ event: 'output', task: command.task, text: piece });
    else text += piece;
  }
  if (command.follow) voice.document(await client.get<TaskDetail>(path));
  else voice.document({ task: command.task, log: text + decoder.decode() });
  return EXIT.ok;
}

async function whyNoOutput(client: Client, path: string): Promise<string> {
  const task = await client.get<TaskDetail>(path);
  if (isTerminal(task.state)) return `no output is kept of it: it ended ${stateWords(task)}`;
  return `no output yet: it is ${stateWords(task)}`;
}
