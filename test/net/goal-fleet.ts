import { join } from 'node:path';
import type { ScriptedBody, Step } from '../model-server/script.ts';
import { ScriptedOllama } from '../model-server/scripted-ollama.ts';
import { Fleet, freePort } from './fleet.ts';
import { greeter } from './mesh.ts';

/** Named in every goal: another test may have a server on a port where one is looked for. */
export const MODEL = 'scripted-coder:7b';

export const call = (name: string, args: Record<string, unknown>): Step => ({
  do: 'call',
  name,
  arguments: args,
});
/** What makes the check of the repository green. */
export const mend = call('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' });

export interface GoalFleet {
  fleet: Fleet;
  /** With which its founder was started, for another start. */
  hubArgs: string[];
  /** A scripted model server that nobody lends yet. */
  server: ScriptedOllama;
  /** Its `sh test.sh` is red. */
  repository: string;
  close(): Promise<void>;
}

/** A founder that takes no work, and two members, `thinker` and `checker`, with a slot each. */
export async function goalFleet(): Promise<GoalFleet> {
  const server = await new ScriptedOllama([MODEL]).listen();
  const hubArgs = ['--port', String(await freePort())];
  const fleet = await Fleet.start({
    hubArgs,
    hub: { slots: 0 },
    members: { thinker: { slots: 1 }, checker: { slots: 1 } },
  });
  const repository = await greeter(join(fleet.home, 'project'));
  const close = async (): Promise<void> => {
    await fleet.close();
    await server.close();
  };
  return { fleet, hubArgs, server, repository, close };
}

/** The model answers so, one after the other, for each conversation anew; what it was asked. */
export function answers(server: ScriptedOllama, steps: Step[][]): ScriptedBody[] {
  const asked: ScriptedBody[] = [];
  server.script = (body) => {
    asked.push(body);
    return steps[Math.min(asked.length, steps.length) - 1]!;
  };
  return asked;
}
