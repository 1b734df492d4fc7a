/** Small repositories whose check is red, each with what a model could plausibly do about it. */
import { existsSync } from 'node:fs';
import type { CodeSpecInput } from '../../protocol/task.ts';
import type { Script, Step } from '../model-server/script.ts';

export interface Repair {
  /** Its language and its matter. */
  name: string;
  /** In the words of a person. Begins no other repair's goal. */
  goal: string;
  files: Record<string, string>;
  /** Red on these files. */
  check: string;
  /** Answers of the scripted model, in order; after them the last one again and again. */
  answers: Step[][];
  /** What git is to find changed, as `M\tpath` lines. */
  changed: string[];
  /** Turns and heals that the script takes. @default one turn an answer, none */
  turns?: number;
  heals?: number;
  /** How the goal is pursued, where not as any other. */
  code?: Partial<CodeSpecInput['code']>;
  /** Globs of files that the submitter counts among the checks. */
  checkFiles?: string[];
  timeoutMs?: number;
}

export const call = (name: string, args: Record<string, unknown>): Step => ({
  do: 'call',
  name,
  arguments: args,
});
export const list = (folder = '.'): Step => call('list', { folder });
export const read = (path: string): Step => call('read', { path });
export const search = (pattern: string): Step => call('search', { pattern });
export const edit = (path: string, from: string, to: string): Step =>
  call('edit', { path, old: from, new: to });
export const write = (path: string, content: string): Step => call('write', { path, content });
export const run = (command: string): Step => call('run', { command });
export const finish = (summary = 'The check is green now.'): Step => call('finish', { summary });
export const say = (text: string): Step => ({ do: 'text', text });
export const think = (text: string): Step => ({ do: 'thinking', text });

/** Lines of a file. */
export const lines = (...all: string[]): string => `${all.join('\n')}\n`;

/** Programs that a repair's check runs by name, of those not on every machine. */
const MAYBE = ['awk', 'bash', 'make', 'perl', 'python3', 'node', 'cc'];

/** Programs of a repair that are not under `/usr` here. */
export const missingFor = (repair: Pick<Repair, 'name'>): string[] => {
  const language = repair.name.split('-')[0]!;
  const program = { python: 'python3', c: 'cc', sh: 'sh' }[language] ?? language;
  return MAYBE.includes(program) && !existsSync(`/usr/bin/${program}`) ? [program] : [];
};

/** One script for a server: each goal is answered as its repair says, in order. `asked` counts the answers by goal. */
export function scriptFor(repairs: readonly Pick<Repair, 'goal' | 'answers'>[]): {
  script: Script;
  asked: Map<string, number>;
} {
  const asked = new Map<string, number>();
  const script: Script = ({ messages }) => {
    const told = messages.find(({ role }) => role === 'user')?.content ?? '';
    const repair = repairs.find(({ goal }) => told.startsWith(`The goal:\n${goal}\n`));
    if (repair === undefined) throw new Error(`no repair has this goal: ${told.slice(0, 80)}`);
    const number = asked.get(repair.goal) ?? 0;
    asked.set(repair.goal, number + 1);
    return repair.answers[Math.min(number, repair.answers.length - 1)]!;
  };
  return { script, asked };
}
