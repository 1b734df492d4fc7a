import { EXIT } from '../../protocol/errors.ts';
import type { MemoryObject, Page } from '../api/objects.ts';
import type { MemoryCommand } from './memory-grammar.ts';
import { cell, fields, moment, oneLine, submitterText, table } from './render.ts';
import { type Session, show } from './session.ts';

/** Characters of a goal or note in a list. */
const listedCharacters = 72;

/** `memory …`: asked of the founder, here or through this member. */
export async function runMemory(command: MemoryCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'memory list': {
      const query = new URLSearchParams({ limit: String(command.limit) });
      if (command.repo !== null) query.set('repository', (await repositoryAt(command.repo, session)).id);
      if (command.cursor !== null) query.set('cursor', command.cursor);
      const page = await client.get<Page<MemoryObject>>(`/v1/memory?${query}`);
      show(session, page, ({ items }) => recordsText(items));
      if (page.next !== null) session.voice.note(`more: --cursor ${cell(page.next)}`);
      return EXIT.ok;
    }
    case 'memory search': {
      const query = new URLSearchParams({ q: command.words, limit: String(command.limit) });
      const page = await client.get<Page<MemoryObject>>(`/v1/memory/search?${query}`);
      show(session, page, ({ items }) => recordsText(items));
      return EXIT.ok;
    }
    case 'memory show':
      show(session, await client.get<MemoryObject>(`/v1/memory/${command.record}`), recordText);
      return EXIT.ok;
    case 'memory note': {
      const { text, file, topic } = command;
      const repository = command.repo === false ? null : await repositoryAt(command.repo, session);
      const made = await client.post<MemoryObject>('/v1/memory', { text, repository, file, topic });
      show(session, made, ({ id }) => cell(id));
      const of = made.repository === null ? 'any work' : cell(made.repository.name);
      session.voice.note(`your next goals about ${of} are told, as a quotation that nobody verified`);
      return EXIT.ok;
    }
    case 'memory forget': {
      const gone = await client.post(`/v1/memory/${command.record}/forget`, {});
      show(session, gone, () => `${command.record} is sent no more`);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

/** What the mesh knows the repository by. */
async function repositoryAt(
  path: string | null,
  { terminal }: Session,
): Promise<{ id: string; name: string }> {
  const [{ openRepository }, { describeInput }] = await Promise.all([
    import('../submit/repository.ts'),
    import('../submit/send.ts'),
  ]);
  const repository = await openRepository(path, {
    cwd: terminal.cwd,
    env: terminal.env,
    ...(terminal.signal && { signal: terminal.signal }),
  });
  const { id, name } = await describeInput(repository, 'HEAD');
  return { id, name };
}

const stateOf = ({ kind, state, reason, verified }: MemoryObject): string =>
  kind === 'note' ? 'note' : verified ? 'verified' : `${state}${reason === null ? '' : `/${reason}`}`;

const listed = (text: string): string =>
  text.length > listedCharacters ? `${text.slice(0, listedCharacters)}…` : text;

function recordsText(items: MemoryObject[]): string {
  if (items.length === 0) return 'nothing is remembered here yet';
  const rows = items.map((record) => [
    cell(record.id),
    cell(stateOf(record)),
    cell(record.repository?.name),
    String(record.used),
    cell(listed(oneLine(record.text))),
  ]);
  return table(['RECORD', 'STATE', 'REPOSITORY', 'USED', 'WHAT'], rows);
}

function recordText(record: MemoryObject): string {
  const { id, text, detail, files, failures, note, topic, recalled, repository, submitter, used, at } =
    record;
  return fields([
    ['record', id],
    ['state', stateOf(record)],
    [record.kind === 'note' ? 'note' : 'goal', oneLine(text)],
    ['detail', detail],
    ['repository', repository === null ? null : `${repository.name} (${repository.id.slice(0, 12)})`],
    ['files', files.join(', ')],
    ...failures.map(({ before, pattern }): [string, unknown] => [
      before ? 'red before' : 'red at its end',
      pattern,
    ]),
    ['topic', topic],
    ['its note', note],
    ['told', recalled.join(', ')],
    ['used', used],
    ['submitter', submitterText(submitter)],
    ['since', moment(at)],
  ]);
}
