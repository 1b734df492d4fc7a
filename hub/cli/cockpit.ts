import { setTimeout as delay } from 'node:timers/promises';
import type { LoggedMesh, MeshObject, StatusObject } from '../../node/api/objects.ts';
import { age, cell, lagWords, meshText, type Paint, pausedText, wrapped } from '../../node/cli/render.ts';
import { paintOf, type Session } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';

/** Where the width is not known. */
const columnsDefault = 80;
/** `--watch` asks this often: that a machine comes or goes, or asks to be let in, is no entry of the log. */
const watchEveryMs = 1_000;

const WAITS: Record<string, string> = {
  paused: 'paused',
  settling: 'waiting for leases of the founder before',
  replicas: 'waiting for replicas to follow',
  secret: 'need a secret',
  answer: 'wait for an answer',
  backOff: 'failed, tried again later',
  noFit: 'fit no machine',
  unavailable: 'fit only machines that cannot be had',
  busy: 'all machines that fit are busy',
  capacity: 'wait because the mesh may run no more (mesh-hub capacity show)',
  held: 'held back (task why says by what)',
  turn: 'next in turn',
};

/** `status`: once, or with `watch` on every change until Ctrl-C (exit 130). */
export async function status(session: Session, watch: boolean): Promise<number> {
  const { terminal, voice } = session;
  const client = session.client();
  const { stdout } = terminal;
  const screen = watch && !voice.json && stdout.isTTY === true && terminal.env.TERM !== 'dumb';
  let last = '';
  while (!watch || !terminal.signal.aborted) {
    const now = await client.get<StatusObject | MeshObject | LoggedMesh>('/v1/status');
    const paint = paintOf(session);
    // The program may be newer than the founder that runs.
    const text =
      'needs' in now
        ? cockpitText(now, paint, stdout.columns || columnsDefault, Date.now())
        : meshText(now, paint);
    // Ages go on by themselves: only a screen, which is written over, shows them go.
    const said = screen ? text : JSON.stringify(now);
    if (said !== last) {
      if (voice.json) voice.document(now);
      else if (screen) stdout.write(overwriting(text, (stdout as { rows?: number }).rows ?? 24));
      else voice.out(last === '' ? text : `\n${text}`);
    }
    last = said;
    if (!watch) return EXIT.ok;
    await delay(watchEveryMs, undefined, { signal: terminal.signal }).catch(() => {});
  }
  if (screen) stdout.write('\n');
  return EXIT.interrupted;
}

/** The text from the top of the screen, what was there before cleared, and no more of it than fits. */
function overwriting(text: string, rows: number): string {
  const lines = text.split('\n');
  const shown =
    lines.length < rows ? lines : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines`];
  return `\x1b[H${shown.map((line) => `${line}\x1b[K`).join('\n')}\x1b[J`;
}

/** The mesh at a glance, no line longer than `columns`. `now`: Unix ms. Pure. */
export function cockpitText(mesh: StatusObject, paint: Paint, columns: number, now: number): string {
  const write = new Page(paint, columns);
  write.line(`${cell(mesh.name)}  epoch ${mesh.epoch}, ${mesh.size} entries, founder ${founderName(mesh)}`);
  write.line(`mesh ${cell(mesh.mesh)}`);
  const paused = pausedText(mesh);
  if (paused !== null) write.line(paused, 'yellow');
  if (mesh.needs.length + mesh.proposals.count > 0) write.head('needs you', 'yellow');
  for (const { what, command } of mesh.needs)
    write.item(command === null ? cell(what) : `${cell(what)}:`, command);
  if (mesh.proposals.count > 0) {
    const { count, newest } = mesh.proposals;
    write.item(
      `${count} ${count === 1 ? 'result that nobody has' : 'results that nobody has'} verified, the newest:`,
      `mesh-hub task diff ${cell(newest)}`,
    );
  }
  if (mesh.risks.length > 0) write.head('at risk', 'yellow');
  for (const risk of mesh.risks) {
    const [, what, command = null] = /^(.*: )(mesh-(?:hub|node) .*)$/.exec(risk) ?? [null, risk];
    write.item(cell(what.trimEnd()), command === null ? null : cell(command));
  }
  write.head(
    `machines  ${mesh.nodes.online} of ${mesh.nodes.total} online, ${mesh.slots.used} of ${mesh.slots.total} slots used`,
  );
  machineLines(mesh, write);
  // A founder that runs may be older than the program that asks it.
  replicaLines(mesh.replicas ?? [], write);
  write.head(`queue  ${mesh.queue.queued} queued, ${mesh.queue.running} running`);
  for (const [kind, count] of Object.entries(mesh.waits)) write.item(`${count} ${WAITS[kind] ?? cell(kind)}`);
  for (const { id, role, member, phase, since } of mesh.tasks) {
    const where = `${role === 'verify' ? 'verified by' : 'on'} ${cell(member.name ?? member.id)}`;
    write.row([cell(id), cell(phase), age(now - since), where], [12, 8, 4]);
  }
  if (mesh.failures.length > 0) write.head('last failures');
  for (const { id, reason, detail, finishedAt } of mesh.failures) {
    const ago = finishedAt === null ? '-' : age(now - finishedAt);
    write.row([cell(id), cell(reason), ago, cell(detail)], [12, 11, 4]);
  }
  return write.text;
}

const founderName = (mesh: StatusObject): string =>
  cell(mesh.machines.find(({ id }) => id === mesh.founder)?.name ?? mesh.founder);

function machineLines({ machines, nodes }: StatusObject, write: Page): void {
  const nameColumns = Math.min(24, Math.max(4, ...machines.map(({ name }) => [...cell(name)].length)));
  for (const { name, state, code, slots, work } of machines) {
    const said = code === null ? (work === 'takes tasks' ? '' : cell(work)) : `code ${cell(code)}`;
    const same = said === `is ${state}` ? '' : said;
    const used = code === null ? `${slots.used}/${slots.total}` : '';
    write.row([cell(name), cell(state), used, same], [nameColumns, 8, 5], colourOf(state));
  }
  const more = nodes.total - machines.filter(({ code }) => code === null).length;
  if (more > 0) write.item(`and ${more} more: mesh-hub node list`);
}

function replicaLines(replicas: StatusObject['replicas'], write: Page): void {
  if (replicas.length === 0) return;
  const following = replicas.filter(({ lag }) => lag !== null).length;
  write.head(`replicas  ${following} of ${replicas.length} follow the log`);
  for (const { name, lag, from } of replicas) {
    const part = from === null || from === 0 ? '' : `, holds entries from ${from} on, backfilling`;
    write.item(`${cell(name)}  ${lagWords(lag)}${part}`);
  }
}

function colourOf(state: string): 'green' | 'yellow' | 'dim' {
  if (state === 'online') return 'green';
  return state === 'offline' ? 'dim' : 'yellow';
}

/** Lines as they fit: sentences are broken at their spaces, rows are cut. */
class Page {
  readonly #paint: Paint;
  readonly #columns: number;
  readonly #lines: string[] = [];

  constructor(paint: Paint, columns: number) {
    this.#paint = paint;
    this.#columns = Math.max(20, columns);
  }

  get text(): string {
    return this.#lines.join('\n');
  }

  line(text: string, colour?: Parameters<Paint>[1]): void {
    for (const line of wrapped(text, this.#columns))
      this.#lines.push(colour === undefined ? line : this.#paint(line, colour));
  }

  head(text: string, colour?: Parameters<Paint>[1]): void {
    this.line(text, colour);
  }

  /** A sentence, and what to type: on the same line where that fits, else below it. */
  item(text: string, command: string | null = null): void {
    const whole = command === null ? text : `${text} ${command}`;
    const room = this.#columns - 2;
    if (command === null || [...whole].length <= room) this.#indented(whole, '  ');
    else {
      this.#indented(text, '  ');
      this.#indented(command, '    ');
    }
  }

  #indented(text: string, indent: string): void {
    for (const line of wrapped(text, this.#columns - indent.length)) this.#lines.push(indent + line);
  }

  /** Cells of these widths, the last of what is left; `colour` is the second's, which is a state. */
  row(cells: string[], widths: number[], colour?: Parameters<Paint>[1]): void {
    let room = this.#columns - 2;
    const shown = cells.map((text, at) => {
      const width = Math.min(room, widths[at] ?? room);
      const cut =
        [...text].length > width
          ? `${[...text].slice(0, Math.max(0, width - 1)).join('')}${width > 0 ? '…' : ''}`
          : text;
      const padded = at < widths.length ? cut + ' '.repeat(Math.max(0, width - [...cut].length)) : cut;
      room = Math.max(0, room - width - 2);
      return at === 1 && colour !== undefined && padded !== '' ? this.#paint(padded, colour) : padded;
    });
    this.#lines.push(`  ${shown.join('  ').trimEnd()}`);
  }
}
