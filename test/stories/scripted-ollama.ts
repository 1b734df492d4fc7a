import { ScriptedModelServer } from '../net/scripted-model-server.ts';

/** No Ollama: a process that lists scripted models where Ollama would, until its stdin ends. scripted-ollama.ts MODEL… */
await ScriptedModelServer.listen('ollama', process.argv.slice(2), 11_434);
console.log('listening');
process.stdin.resume();
process.stdin.once('end', () => process.exit());
