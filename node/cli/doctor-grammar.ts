import type { DoctorOptions } from '../doctor/doctor.ts';
import type { Grammar } from './parse.ts';
import * as v from './values.ts';

export interface DoctorCommand {
  verb: 'doctor';
  founder: string | null;
  port: number | null;
  fix: boolean;
  yes: boolean;
  /** Only the facts, as JSON, as the user that root becomes: what this program asks of itself. */
  look: DoctorOptions | null;
}

/** `doctor` of both bins. */
export function addDoctorGrammar<C>(
  grammar: Grammar<C | DoctorCommand>,
  bin: 'mesh-node' | 'mesh-hub',
): void {
  const place =
    bin === 'mesh-node'
      ? v.option('--founder <address>', 'try this founder: host, host:port or multiaddr', v.text('--founder'))
      : v.option('--port <n>', 'the port that the founder shall listen on (default: 4701)', v.port);
  grammar.leaf(null, {
    usage: 'doctor',
    summary: 'can this machine work? what was found, and what to do about each lack',
    options: [
      place,
      v.option('--fix', 'mend what can be mended; says the commands and asks first'),
      v.option('--yes', 'with --fix: ask nothing'),
      v.option('--look <json>', '', (text) => JSON.parse(text) as unknown).hideHelp(),
    ],
    examples: [`${bin} doctor`, `${bin} doctor --fix`],
    read: ({ options }) => ({
      verb: 'doctor',
      founder: (options.founder as string | undefined) ?? null,
      port: (options.port as number | undefined) ?? null,
      fix: options.fix === true,
      yes: options.yes === true,
      look: (options.look as DoctorOptions | undefined) ?? null,
    }),
  });
}
