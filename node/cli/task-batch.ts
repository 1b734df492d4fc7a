import { join, resolve } from 'node:path';
import { EXIT } from '../../protocol/errors.ts';
import { batchRequestBytesMax } from '../../protocol/limits.ts';
import type { Client } from '../api/client.ts';
import type { TaskDetail } from '../api/objects.ts';
import type { SpecToSend } from '../submit/from-manifest.ts';
import { type BatchPart, postBatch } from '../submit/post-task.ts';
import { type BatchTask, batchOf } from './batch-file.ts';
import { readBounded } from './bounded-file.ts';
import { expand } from './matrix.ts';
import { cell } from './render.ts';
import type { SendCommand, Shared, SubmitCommand } from './send-grammar.ts';
import type { Session } from './session.ts';
import { endOf, overRepository } from './task-send.ts';
import { askedOf, specOf } from './task-spec.ts';
import { usageError } from './usage-errors.ts';

/** `task run --matrix`: a task for each combination. */
export async function sendMatrix(command: SendCommand, session: Session, client: Client): Promise<number> {
  const commands = expand(command);
  if (!command.dryRun)
    return sendAll(
      command,
      commands.map((one) => ({ command: one })),
      session,
      client,
    );
  const { askDryRun, tellDryRun } = await import('./dry-run.ts');
  const { result } = await overRepository(command, session, client, commands.map(specOf), async (specs) => {
    const told = [];
    for (const [at, spec] of specs.entries())
      told.push(await askDryRun(client, spec, askedOf(commands[at]!)));
    return told;
  });
  if (session.voice.json) session.voice.document({ items: result, next: null });
  const codes = result.map((told) => {
    if (!session.voice.json) return tellDryRun(session, told, command.allowWaiting);
    return told.unmet === null || command.allowWaiting ? EXIT.ok : EXIT.refused;
  });
  return Math.max(...codes);
}

/** `task submit`: the tasks of a file. */
export async function submitFile(command: SubmitCommand, session: Session, client: Client): Promise<number> {
  const bytes = await readBounded(resolve(session.terminal.cwd, command.file), {
    what: 'the file of tasks',
    bytesMax: batchRequestBytesMax,
    expected: 'a YAML or JSON list of tasks',
    hint: 'mesh-hub task submit FILE',
  });
  if (bytes.length > batchRequestBytesMax) {
    throw usageError('the file of tasks is too large', {
      expected: `at most ${batchRequestBytesMax} bytes`,
      got: 'more',
    });
  }
  return sendAll(command, batchOf(Buffer.from(bytes).toString('utf8')), session, client);
}

async function sendAll(
  shared: Shared,
  tasks: readonly BatchTask[],
  session: Session,
  client: Client,
): Promise<number> {
  const { voice, typed } = session;
  const parts = (specs: readonly SpecToSend[]): BatchPart[] =>
    tasks.map(({ command, ...named }, at) => ({ ...named, asked: askedOf(command), spec: specs[at]! }));
  const unmet = shared.allowWaiting ? 'say' : 'refuse';
  const specs = tasks.map(({ command }) => specOf(command));
  const { result } = await overRepository(shared, session, client, specs, (whole, bundle) =>
    postBatch(client, parts(whole), bundle, unmet),
  );
  if (shared.wait) session.terminal.signal.throwIfAborted();
  if (!voice.json) for (const { id } of result) voice.out(id);
  else if (!shared.wait) voice.document({ items: result, next: null });
  const [first] = result;
  voice.note(`note: ${result.length} tasks: ${typed} task list --correlation ${cell(first?.correlation)}`);
  if (!shared.wait) return EXIT.ok;
  const ended: TaskDetail[] = [];
  // One after the other: who waits for all of them need not watch each at once.
  for (const { id } of result) {
    const output = shared.output === null ? null : join(shared.output, id);
    ended.push(await endOf({ ...shared, output, follow: false }, session, client, id, null));
  }
  if (voice.json) voice.document({ items: ended, next: null });
  return ended.every(({ state }) => state === 'delivered') ? EXIT.ok : EXIT.taskFailed;
}
