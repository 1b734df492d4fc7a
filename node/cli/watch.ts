import { setTimeout as delay } from 'node:timers/promises';
import { pipe } from 'it-pipe';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { escapeControls } from '../../protocol/escape.ts';
import type { TaskState } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { TaskDetail } from '../api/objects.ts';
import { elapsed } from './progress.ts';
import { cell, stateWords } from './render.ts';
import { type Session, typedHere } from './session.ts';
import { untouched } from './terminal.ts';
import { type Why, waitingLine } from './waiting.ts';

/** A founder that restarts is waited for this long before a waiting command gives up. */
const awayMs = 60_000;
const retryMs = 500;
/** What is left of a live output after the task's end is waited for this long. */
const lastOutputMs = 5_000;
/** A task that waits this long is looked into. */
const waitsMs = 2_000;

const TERMINAL: ReadonlySet<TaskState> = new Set(['delivered', 'failed', 'cancelled', 'rejected']);
export const isTerminal = (state: TaskState): boolean => TERMINAL.has(state);

/** The task on each change, across restarts of the founder, until it has ended. */
async function* changes(client: Client, task: string, signal: AbortSignal): AsyncGenerator<TaskDetail> {
  let away: number | null = null;
  for (;;) {
    try {
      for await (const now of client.lines<TaskDetail>('GET', `/v1/tasks/${task}/watch`, signal)) {
        away = null;
        yield now;
        if (isTerminal(now.state)) return;
      }
      away ??= Date.now();
    } catch (thrown) {
      if (signal.aborted || asSuperfleetError(thrown).code !== 'SF_UNREACHABLE') throw thrown;
      away ??= Date.now();
      if (Date.now() - away > awayMs) throw thrown;
    }
    await delay(retryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/**
 * Waits for a task's end and says on stderr how it goes; with `follow` its output too, under `--json` as events on
 * stdout. Ctrl-C leaves the task running and says how to get at it.
 */
export async function waitFor(
  session: Session,
  client: Client,
  task: string,
  follow: boolean,
  onChange: (now: TaskDetail) => void = () => {},
): Promise<TaskDetail> {
  const { voice, terminal, typed } = session;
  const { signal } = terminal;
  const output = new AbortController();
  const both = AbortSignal.any([signal, output.signal]);
  const following = follow ? followOutput(session, client, task, both).catch(() => {}) : Promise.resolve();
  const waiting = new Waiting(session, client, task);
  try {
    let last = '';
    for await (const now of changes(client, task, signal)) {
      onChange(now);
      const words = progressWords(now);
      if (words !== last) {
        if (follow && voice.json)
          voice.document({ event: 'state', task, state: now.state, reason: now.reason });
        // How it ended stays on the screen, and what stands between lines of output too.
        if (isTerminal(now.state) || (follow && !voice.json)) voice.note(`${task}: ${words}`);
        else voice.progress(since(task, words));
      }
      last = words;
      waiting.look(now);
      if (!isTerminal(now.state)) continue;
      const late = new AbortController();
      await Promise.race([
        following,
        delay(lastOutputMs, undefined, { signal: late.signal }).catch(() => {}),
      ]);
      late.abort();
      return now;
    }
    throw new SuperfleetError('SF_UNREACHABLE', 'the founder stopped telling about the task');
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
    throw new SuperfleetError('SF_INTERRUPTED', `interrupted; task ${task} goes on`, {
      hint: `${typed} task get ${task} when it has ended; ${typed} task stop ${task} cancels it`,
    });
  } finally {
    voice.clear();
    waiting.end();
    output.abort();
    await following;
  }
}

/** Says why a task is not going on, where it has not for a moment. */
class Waiting {
  readonly #session: Session;
  readonly #client: Client;
  readonly #task: string;
  #timer: NodeJS.Timeout | undefined;
  #said = '';

  constructor(session: Session, client: Client, task: string) {
    this.#session = session;
    this.#client = client;
    this.#task = task;
  }

  look({ state, verifier }: TaskDetail): void {
    this.end();
    const waits = state === 'queued' || (state === 'executed' && verifier === null);
    if (waits) this.#timer = setTimeout(() => void this.#ask(), waitsMs);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    try {
      const { state, ...why } = await this.#client.get<Why>(`/v1/tasks/${this.#task}/why`);
      const line = waitingLine({ state, ...why });
      if (state !== 'queued' && state !== 'executed') return;
      if (line !== this.#said) {
        this.#session.voice.note(`${this.#task}: waits: ${line}`);
        // Nothing goes on before somebody types this, in another terminal.
        if (why.wait === 'answer')
          for (const remedy of why.remedies ?? [])
            this.#session.voice.note(`  ${cell(typedHere(this.#session, remedy))}`);
      }
      this.#said = line;
    } catch {
      // The task itself is watched, and says what is wrong.
    }
  }
}

async function followOutput(
  session: Session,
  client: Client,
  task: string,
  signal: AbortSignal,
): Promise<void> {
  const { voice, terminal } = session;
  const output = client.bytes(`/v1/tasks/${task}/log?follow=1`, signal);
  if (voice.json) {
    const decoder = new TextDecoder();
    for await (const bytes of output) {
      voice.document({ event: 'output', task, text: decoder.decode(bytes, { stream: true }) });
    }
    return;
  }
  await pipe(output, terminal.stderr.isTTY === true ? escapeControls : untouched, async (pieces) => {
    for await (const piece of pieces) await voice.aside(piece);
  });
}

/** The words, and from the first second on how long they have been true. */
function since(task: string, words: string): () => string {
  const from = performance.now();
  return () => {
    const ms = performance.now() - from;
    return ms < 1000 ? `${task}: ${words}` : `${task}: ${words}, ${elapsed(ms)}`;
  };
}

function progressWords(task: TaskDetail): string {
  const name = (party: TaskDetail['executor']): string =>
    party === null ? 'a machine' : (party.name ?? party.id);
  const attempt = task.attempts > 1 ? ` (attempt ${task.attempts})` : '';
  switch (task.state) {
    case 'queued':
      return task.attempts === 0 ? 'queued' : `queued again${attempt}`;
    case 'assigned':
      return `given to ${name(task.executor)}${attempt}`;
    case 'running':
      return `running on ${name(task.executor)}${attempt}`;
    case 'executed':
      return task.verifier === null
        ? 'done, waiting for a verifier'
        : `done, being verified by ${name(task.verifier)}`;
    case 'delivered':
      return task.verified ? `delivered, verified by ${name(task.verifier)}` : 'delivered, unverified';
    default:
      return stateWords(task);
  }
}
