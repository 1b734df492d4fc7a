import { escapeBytes } from '../../protocol/escape.ts';
import type { Client } from '../api/client.ts';
import { cell } from './render.ts';

/** What `task why` answers. */
export interface Why {
  state: string;
  /** What a queued task waits for; an older founder does not say. */
  wait?: string | null;
  reasons: string[];
  position: number | null;
  members: { id: string; name: string; why: string }[];
  /** A founder of an older release names none. */
  remedies?: string[];
}

/** Machines named in one line. */
const namedMax = 6;
/** What is shown of a failed task's output, at most: the rest is in `task logs`. */
const tailLines = 20;
const tailBytes = 4 * 1024;

/** Why a task waits, in one line: what holds it up, and what each machine lacks. */
export function waitingLine({ reasons, members }: Why): string {
  const lacking = members.filter(({ why }) => !/^can (take|verify) it$/.test(why));
  const shown = lacking.slice(0, namedMax).map(({ name, why }) => `${cell(name)} ${cell(why)}`);
  if (lacking.length > shown.length) shown.push(`${lacking.length - shown.length} more`);
  const named = lacking.length === members.length && shown.length > 0 ? ` (${shown.join('; ')})` : '';
  return `${reasons.map(cell).join('; ') || 'a machine can take it'}${named}`;
}

/** The last lines of a task's output, safe for a terminal; '' where there is none. */
export async function lastLines(client: Client, task: string, signal: AbortSignal): Promise<string> {
  let tail = Buffer.alloc(0);
  for await (const bytes of client.bytes(`/v1/tasks/${task}/log?follow=0`, signal)) {
    tail = Buffer.concat([tail, bytes]);
    if (tail.length > tailBytes) tail = Buffer.from(tail.subarray(tail.length - tailBytes));
  }
  const lines = escapeBytes(tail).replace(/\n$/, '').split('\n').slice(-tailLines);
  return lines.join('\n');
}
