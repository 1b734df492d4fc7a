import type { Entry } from '../../ledger/lines/entry.ts';
import { escapeLine } from '../../protocol/escape.ts';
import type { TaskSpec } from '../../protocol/task.ts';
import type {
  AsOf,
  CopyObject,
  LoggedMesh,
  LoggedNode,
  MeshObject,
  NodeObject,
  OwnNodeObject,
  Party,
  TaskDetail,
  TaskObject,
} from '../api/objects.ts';
import { scheduleFields } from './schedule-text.ts';

/** Objects as text for a person. Whatever came from elsewhere is made visible first; absent values are `-`. */

export type Paint = (text: string, colour: 'green' | 'red' | 'yellow' | 'dim') => string;

const CODES = { green: 32, red: 31, yellow: 33, dim: 2 } as const;

export const painter =
  (on: boolean): Paint =>
  (text, colour) =>
    on ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text;

export function cell(value: unknown): string {
  if (value === null || value === undefined || value === '') return '-';
  return escapeLine(
    typeof value === 'string' ? value : typeof value === 'object' ? JSON.stringify(value) : String(value),
  );
}

/** Words of several lines as one, where there is a line for them; the whole stands under --json. */
export const oneLine = (words: string): string => words.trim().replace(/\s*\n\s*/g, ' ');

/** Columns aligned by their widest cell; the last is not padded. */
export function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, at) => Math.max(width(title), ...rows.map((row) => width(row[at] ?? ''))));
  return [head, ...rows]
    .map((row) =>
      row
        .map((text, at) =>
          at === row.length - 1 ? text : text + ' '.repeat((widths[at] ?? 0) - width(text)),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Characters seen, colours not counted. */
const width = (text: string): number => [...text.replace(/\x1b\[\d+m/g, '')].length;

/** Text broken at its spaces into lines of at most so many columns; a longer word is broken where it must be. */
export function wrapped(text: string, columns: number, indent = ''): string[] {
  const room = Math.max(8, columns);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && width(line) + 1 + width(word) <= room) line += ` ${word}`;
    else {
      if (line !== '') lines.push(line);
      let rest = [...(lines.length === 0 ? word : indent + word)];
      for (; rest.length > room; rest = [...indent, ...rest.slice(room)])
        lines.push(rest.slice(0, room).join(''));
      line = rest.join('');
    }
  }
  return [...lines, line];
}

/** `name  value` lines. */
export function fields(pairs: [string, unknown][]): string {
  const widest = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(widest)}  ${cell(value)}`).join('\n');
}

const party = (of: Party | null | undefined): string =>
  of === null || of === undefined ? '-' : cell(of.name ?? of.id);

export const moment = (ms: number | null | undefined): string =>
  typeof ms === 'number' && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString().replace('.000Z', 'Z') : '-';

const map = (of: Record<string, string> | null | undefined): string =>
  cell(
    Object.entries(of ?? {})
      .map(([key, value]) => (value === '' ? key : `${key}=${value}`))
      .join(' '),
  );

function stateColour(state: string): 'green' | 'red' | 'yellow' | 'dim' {
  if (state === 'delivered' || state === 'online') return 'green';
  if (['failed', 'rejected', 'revoked'].includes(state)) return 'red';
  if (['cancelled', 'offline'].includes(state)) return 'dim';
  return 'yellow';
}

/** What holds the whole mesh; null: nothing does. A founder that runs may be older than the program that asks it. */
export function pausedText({ paused, draining, slots }: Partial<MeshObject | LoggedMesh>): string | null {
  if (draining === true) {
    const used = slots?.used ?? null;
    const left = used === null ? '' : used === 0 ? ': nothing runs any more' : `: ${used} still run`;
    return `draining: nothing more is given out until "mesh-hub resume"${left}`;
  }
  return paused === true ? 'paused: nothing runs until "mesh-hub resume"' : null;
}

export function meshText(mesh: MeshObject | LoggedMesh, paint: Paint): string {
  const lines = fields([
    ['mesh', mesh.mesh],
    ['name', mesh.name],
    ['founder', mesh.founder],
    ['epoch', mesh.epoch],
    ['log', `${mesh.size} entries, root ${mesh.root}`],
    [
      'nodes',
      mesh.nodes.online === null ? mesh.nodes.total : `${mesh.nodes.online} of ${mesh.nodes.total} online`,
    ],
    ['slots', slotsText(mesh.slots)],
    ['queue', `${mesh.queue.queued} queued, ${mesh.queue.running} running`],
  ]);
  const said = pausedText(mesh);
  const paused = said === null ? [] : [paint(said, 'yellow')];
  const warnings = mesh.warnings.map((warning) => paint(`warning: ${cell(warning)}`, 'yellow'));
  return [lines, ...paused, ...warnings].join('\n');
}

const slotsText = ({ used, total }: LoggedMesh['slots']): string | null =>
  total === null ? null : `${used} of ${total} used`;

export function nodesText(nodes: (NodeObject | LoggedNode)[], paint: Paint): string {
  const rows = nodes.map((node) => [
    cell(node.name),
    node.quarantined === undefined
      ? paint(cell(node.state), stateColour(node.state ?? ''))
      : paint(`${cell(node.state)}/quarantine`, 'red'),
    cell(node.owner),
    cell(node.roles.join(',')),
    node.slots.total === null ? '-' : `${node.slots.used}/${node.slots.total}`,
    cell(brief(node.models ?? [])),
    node.code === null ? map(node.labels) : `code ${cell(node.code)}`,
    cell(node.id),
  ]);
  return table(['NAME', 'STATE', 'OWNER', 'ROLES', 'SLOTS', 'MODELS', 'LABELS', 'ID'], rows);
}

/** Two names, and how many more. */
const brief = (names: readonly string[]): string =>
  names.length <= 2 ? names.join(' ') : `${names.slice(0, 2).join(' ')} +${names.length - 2}`;

export function nodeText(
  node: (NodeObject | LoggedNode) & Partial<Pick<OwnNodeObject, 'replica' | 'environments' | 'settings'>>,
  paint: Paint,
): string {
  return fields([
    ['id', node.id],
    ['name', node.name],
    ['state', node.state],
    ...(node.code === null ? [] : ([['code', node.code]] as [string, unknown][])),
    ['owner', node.owner],
    ['roles', node.roles.join(' ')],
    ['slots', slotsText(node.slots)],
    ['policy', node.policy ?? null],
    ['work', node.work ?? null],
    ...(node.settings ?? []).map(({ name, says }): [string, unknown] => [name, cell(says)]),
    ['labels', map(node.labels)],
    ['models', (node.models ?? []).join(' ')],
    ['tools', map(node.tools)],
    ['limits', map(node.limits as unknown as Record<string, string> | null)],
    ['lag', node.roles.includes('replica') ? lagWords(node.lag) : null],
    ...(node.replica == null ? [] : [['copy', copyText(node.replica)] as [string, unknown]]),
    ...((node.environments?.count ?? 0) === 0
      ? []
      : [['prepared', environmentsText(node.environments!)] as [string, unknown]]),
  ]).replace(/^(state +)(\S+)/m, (_, name: string, state: string) => name + paint(state, stateColour(state)));
}

const environmentsText = ({ count, bytes, bytesMax }: NonNullable<OwnNodeObject['environments']>): string =>
  `${count} ${count === 1 ? 'environment' : 'environments'}, ${size(bytes)} of ${size(bytesMax)}`;

const size = (bytes: number): string =>
  bytes < 1024 ** 3 ? `${Math.ceil(bytes / 1024 ** 2)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`;

const copyText = ({ size, from, fetched, follows, behind }: CopyObject): string => {
  const source = follows === null ? 'follows nobody now' : `follows ${follows.name ?? follows.id}`;
  const part = from === 0 ? `${size} entries of the log` : `entries ${from} to ${size - 1} of the log`;
  const rest = from === 0 ? '' : `; ${fetched} of the ${from} before are fetched`;
  return `${part}, ${source}${behind === null ? '' : `, ${lagWords(behind)}`}${rest}`;
};

/** What an answer is of that did not come from a founder at work. `now`: Unix ms. */
export function asOfText({ size, time, behind, why }: AsOf, now: number): string {
  const known = behind === null || behind === 0 ? '' : `; ${behind} more are known to exist`;
  return cell(`${why}; as of entry ${size - 1}, ${age(now - time)} ago${known}`);
}

/** A span in its largest unit: `8s`, `3m`, `2h`, `5d`. A clock that was set back makes none negative. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds}s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)}m`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`;
}

/** How far a replica is behind its source, in words. */
export function lagWords(lag: number | null): string {
  if (lag === null) return 'does not follow';
  return lag === 0 ? 'in step' : `${lag} ${lag === 1 ? 'entry' : 'entries'} behind`;
}

export function tasksText(tasks: TaskObject[], paint: Paint): string {
  const rows = tasks.map((task) => [
    cell(task.id),
    paint(stateWords(task), stateColour(task.state)),
    task.verified ? 'verified' : '-',
    cell(task.confidence),
    party(task.executor),
    party(task.verifier),
    cell(task.commit?.slice(0, 10)),
    moment(task.submittedAt),
  ]);
  return table(
    ['ID', 'STATE', 'VERIFIED', 'CONFIDENCE', 'EXECUTOR', 'VERIFIER', 'COMMIT', 'SUBMITTED'],
    rows,
  );
}

export const stateWords = (task: TaskObject): string => {
  if (task.question != null) return `${cell(task.state)}/asks`;
  return task.reason === null || task.reason === undefined
    ? cell(task.state)
    : `${cell(task.state)}/${cell(task.reason)}`;
};

/** What was asked for. */
function workFields(spec: TaskSpec | undefined): [string, string | null][] {
  if (spec?.kind === 'code') return [['goal', oneLine(spec.code.goal)]];
  return [['command', spec === undefined ? null : spec.argv.map(shellWord).join(' ')]];
}

/** What it goes on from, and what can go on from it. */
function partFields(
  { id, state, continues, partial }: Parameters<typeof taskText>[0],
  typed: string,
): [string, string][] {
  const fields: [string, string][] = [];
  if (continues != null)
    fields.push(['continues', `${continues.task}, from ${continues.commit.slice(0, 12)}`]);
  if (partial != null && state !== 'delivered')
    fields.push(['partial', `${partial.commit.slice(0, 12)}; ${typed} task continue ${id} goes on from it`]);
  return fields;
}

function replicaFields(said: TaskDetail['replicas']): [string, string][] {
  if (said == null) return [];
  const others = said.others.map(
    (each) => `${party(each)} ${each.agrees ? 'agrees' : `does not: ${oneLine(each.detail ?? 'no detail')}`}`,
  );
  return [['agreed', [`${said.agreed} of ${said.wanted}`, ...others].join('; ')]];
}

function reverifiedFields(said: TaskDetail['reverified']): [string, string][] {
  if (said == null) return [];
  const { outcome, by, of, detail } = said;
  const why = detail === null ? '' : `; ${oneLine(detail)}`;
  const whose = `after ${party(of)} came into quarantine`;
  if (by === null) return [['reverified', `nobody could, ${whose}${why}`]];
  return [['reverified', `${outcome} by ${party(by)}, ${whose}${outcome === 'confirmed' ? '' : why}`]];
}

export function taskText(
  task: TaskObject & { detail?: string | null; spec?: TaskSpec } & Pick<
      Partial<TaskDetail>,
      | 'applied'
      | 'continues'
      | 'doubt'
      | 'flaky'
      | 'partial'
      | 'questions'
      | 'remembered'
      | 'replicas'
      | 'reverified'
      | 'schedule'
    >,
  paint: Paint,
  typed: string,
): string {
  return fields([
    ['id', task.id],
    ['state', stateWords(task)],
    ['detail', task.detail ?? null],
    ...(task.doubt == null ? [] : ([['doubt', task.doubt]] as [string, unknown][])),
    ...(task.question == null ? [] : ([['question', oneLine(task.question)]] as [string, unknown][])),
    ...workFields(task.spec),
    ...(task.questions ?? []).flatMap(({ text, answer }): [string, string][] =>
      answer === null
        ? []
        : [
            ['asked', oneLine(text)],
            ['answered', oneLine(answer.text)],
          ],
    ),
    ...partFields(task, typed),
    ...scheduleFields(task.schedule),
    ...(task.flaky ?? []).map((line): [string, string] => ['flaky', line]),
    ...(task.remembered == null || task.remembered.length === 0
      ? []
      : ([['remembered', task.remembered.join(', ')]] as [string, unknown][])),
    [
      'verified',
      task.verified
        ? `yes, by ${party(task.verifier)}${task.sameOwner === true ? ' (same owner)' : ''}`
        : 'no',
    ],
    ...replicaFields(task.replicas),
    ...reverifiedFields(task.reverified),
    ['confidence', task.confidence],
    ['executor', party(task.executor)],
    ['attempts', task.attempts],
    ['base', task.base],
    ['branch', task.branch],
    ['commit', task.commit],
    ['exit code', task.exitCode],
    ['receipt', task.receipt],
    ['submitter', submitterText(task.submitter)],
    ['correlation', task.correlation],
    ['submitted', moment(task.submittedAt)],
    ['finished', moment(task.finishedAt)],
    ...(task.applied == null
      ? []
      : ([['applied', `${moment(task.applied.at)} by ${submitterText(task.applied.by)}`]] as [
          string,
          unknown,
        ][])),
  ]).replace(
    /^(state +)(\S+)/m,
    (_, name: string, state: string) => name + paint(state, stateColour(task.state)),
  );
}

/** A word as a shell takes it. */
export const shellWord = (word: string): string =>
  /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

export function submitterText(by: unknown): string {
  if (typeof by === 'string') return cell(by);
  const fields = (typeof by === 'object' && by !== null ? by : {}) as Record<string, unknown>;
  if (fields.kind === 'local') return `${cell(fields.user)} (claimed)`;
  return cell(fields.name ?? fields.peer ?? fields.id ?? fields.kind);
}

/** Of no use to eyes, or told elsewhere; the whole stands under --json. */
const untold = new Set(['correlation', 'nonce', 'envelope', 'learned']);

/** An entry of the log in one line: its own words, digests cut short. `besides`: fields that need not be told here. */
export function entryText(entry: Entry, besides: readonly string[] = []): string {
  const words = Object.entries((entry.body ?? {}) as Record<string, unknown>)
    .filter(([key]) => !untold.has(key) && !besides.includes(key))
    .filter(([, value]) => value !== null && !(typeof value === 'object' && Object.keys(value).length === 0))
    .map(([key, value]) => `${key === 'spec' ? 'command' : key}=${wordOf(key, value)}`)
    .join(' ');
  return `${String(entry.index).padStart(6)}  ${moment(entry.time)}  ${cell(entry.type).padEnd(18)}  ${words}`;
}

function wordOf(key: string, value: unknown): string {
  if (key === 'by') return submitterText(value);
  if (key === 'spec') {
    const { argv } = value as { argv?: string[] };
    return cell(argv === undefined ? value : argv.map(shellWord).join(' '));
  }
  return shortened(cell(value));
}

/** What the log says of one task. */
export const historyText = (entries: Entry[]): string =>
  entries.map((entry) => entryText(entry, ['task', 'spec'])).join('\n');

const shortened = (text: string): string => text.replace(/\b([0-9a-f]{12})[0-9a-f]{28,52}\b/g, '$1');
