import { SuperfleetError } from '../../protocol/errors.ts';
import { budget } from './budget.ts';
import { failures } from './failures.ts';
import { memoryPlugin } from './memory/memory.ts';
import type { HubPlugin } from './plugin.ts';

/** Every plugin there is. One more is its reducer in `ledger/state/plugin-reducers.ts` and a line here. */
// biome-ignore lint/suspicious/noExplicitAny: each knows its own state, and only it looks inside.
export const PLUGINS: readonly HubPlugin<any>[] = [memoryPlugin, budget, failures];

/** Those that the config leaves on. Throws `SF_USAGE` where it names one that there is not. */
export function chosenPlugins(
  wishes: Readonly<Record<string, boolean>>,
  plugins: readonly HubPlugin[] = PLUGINS,
): { on: HubPlugin[]; off: string[] } {
  for (const name of Object.keys(wishes)) {
    if (plugins.some((plugin) => plugin.name === name)) continue;
    throw new SuperfleetError('SF_USAGE', `there is no plugin ${name}`, {
      expected: `plugins: ${plugins.map((plugin) => plugin.name).join(', ') || 'none'}`,
      got: name,
      hint: 'mend or remove it in config.json',
    });
  }
  return {
    on: plugins.filter(({ name }) => wishes[name] !== false),
    off: plugins.filter(({ name }) => wishes[name] === false).map(({ name }) => name),
  };
}
