import { readFile, stat } from 'node:fs/promises';
import { writeFileAtomic } from '../atomic-file.ts';
import { answering } from './answer.ts';
import { asBrainError } from './fault.ts';
import { conversations, firstDifference, Transcript, type Turn, turnOf } from './transcript.ts';
import {
  type Brain,
  BrainError,
  type ChatEvent,
  type ChatRequest,
  type Message,
  type Model,
} from './types.ts';

const FILE_BYTES_MAX = 64 * 1024 * 1024;

/**
 * No model: a transcript that answers what it was recorded with, and refuses anything else (`model`). Where a conversation
 * was recorded more than once, its answers come in turn. Throws a `BrainError` `broken` for a file that is no transcript.
 */
export async function recordedBrain(file: string): Promise<Brain> {
  const { turns } = await readTranscript(file);
  const recorded = conversations(turns);
  if (recorded === null) throw new BrainError('broken', `${file}: a turn keeps more than was said before it`);
  const played = turns.map(() => 0);

  async function* play(request: ChatRequest): AsyncGenerator<ChatEvent> {
    const tools = JSON.stringify(request.tools.map(({ name }) => name));
    const fits = (turn: Turn): boolean =>
      turn.model === request.model && JSON.stringify(turn.tools) === tools;
    let furthest = -1;
    let next: number | null = null;
    for (const [index, turn] of turns.entries()) {
      if (!fits(turn)) continue;
      const difference = firstDifference(recorded![index]!, request.messages);
      furthest = Math.max(furthest, difference ?? -1);
      if (difference === null && (next === null || played[index]! < played[next]!)) next = index;
    }
    if (next === null) throw notRecorded(request, furthest);
    played[next]!++;
    const { events, fault } = turns[next]!;
    yield* events as ChatEvent[];
    if (fault !== null) throw new BrainError(fault.fault, `as recorded: ${fault.message}`);
  }

  return {
    name: 'recorded',
    server: file,
    place: 'local',
    models: async (): Promise<Model[]> =>
      [...new Set(turns.map(({ model }) => model))].map((name) => ({
        name,
        contextTokens: null,
        tools: turns.some((turn) => turn.model === name && turn.tools.length > 0) ? true : null,
        bytes: null,
        parameters: null,
      })),
    chat: (request, signal) => answering(file, request, signal, () => play(request)),
  };
}

function notRecorded(request: ChatRequest, furthest: number): BrainError {
  const where =
    furthest === -1
      ? `it has no ${request.model} with ${request.tools.length === 0 ? 'no tools' : 'these tools'}`
      : `message ${furthest + 1} (${request.messages[furthest]?.role ?? 'none'}) is not what was recorded`;
  return new BrainError('model', `this is a recorded transcript, no model, and it cannot answer: ${where}`);
}

async function readTranscript(file: string): Promise<Transcript> {
  const fail = (why: string, cause?: unknown): BrainError =>
    new BrainError('broken', `${file} is no recorded transcript: ${why}`, { cause });
  let text: string;
  try {
    if ((await stat(file)).size > FILE_BYTES_MAX) throw new Error('larger than 64 MiB');
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw fail((error as Error).message, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fail('it is no JSON', error);
  }
  const parsed = Transcript.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw fail(`${issue?.path.join('.') || 'the whole'}: ${issue?.message}`, parsed.error);
}

/**
 * The brain as it is, writing what is asked and answered to a file from which `recordedBrain` answers again: whole after each
 * answer, with the pieces of a text joined. An answer the reader left, or that was aborted, is not kept.
 */
export function record(brain: Brain, file: string): Brain {
  const turns: Turn[] = [];
  let before: readonly Message[] = [];
  let written: Promise<void> = Promise.resolve();

  const keep = (request: ChatRequest, events: Turn['events'], fault: Turn['fault']): Promise<void> => {
    turns.push({ ...turnOf(before, request), events, fault });
    before = structuredClone(request.messages);
    const about = `Recorded from ${brain.name}: no model answers here.`;
    const transcript: Transcript = { format: 1, about, turns };
    const text = `${JSON.stringify(transcript, null, 1)}\n`;
    written = written.catch(() => undefined).then(() => writeFileAtomic(file, text));
    return written;
  };

  async function* chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const events: Turn['events'] = [];
    try {
      for await (const event of brain.chat(request, signal)) {
        const last = events.at(-1);
        if ('text' in event && last !== undefined && 'text' in last && last.type === event.type) {
          last.text += event.text;
        } else events.push(structuredClone(event));
        if (event.type === 'end') await keep(request, events, null);
        yield event;
      }
    } catch (error) {
      if (signal.aborted || events.at(-1)?.type === 'end') throw error;
      const { fault, message } = asBrainError(error, brain.server, events.length > 0);
      await keep(request, events, { fault, message });
      throw error;
    }
  }

  return {
    name: brain.name,
    server: brain.server,
    place: brain.place,
    models: (signal) => brain.models(signal),
    chat,
    ...(brain.unload === undefined ? {} : { unload: brain.unload.bind(brain) }),
  };
}
