/** A program: the scripted Ollama server on its usual port, for a network namespace of its own. Its model mends greet.sh in three turns. */
import type { Step } from '../model-server/script.ts';
import { ScriptedOllama } from '../model-server/scripted-ollama.ts';

const call = (name: string, args: Record<string, unknown>): Step => ({ do: 'call', name, arguments: args });
const TURNS: Step[][] = [
  [call('read', { path: 'greet.sh' }), call('run', { command: 'sh test.sh' })],
  [call('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' })],
  [call('finish', { summary: 'The greeting is spelled right.' })],
];
await new ScriptedOllama(['scripted-coder:7b'], ({ messages }) => {
  const turns = messages.filter(({ role }) => role === 'assistant').length;
  return TURNS[Math.min(turns, TURNS.length - 1)]!;
}).listen(11_434);
process.stdout.write('listening\n');
