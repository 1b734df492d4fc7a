import { asSuperfleetError } from '../../protocol/errors.ts';
import { asksForJson, type Parsed } from './parse.ts';
import { type Session, typedHere } from './session.ts';
import { isDaemon, processTerminal, type Terminal, Voice } from './terminal.ts';

/** Parses, runs, and turns whatever is thrown into words and an exit code. The one place where a bin's errors end. */
export async function runMain<C>(
  args: readonly string[],
  terminal: Terminal,
  parse: (args: readonly string[]) => Parsed<C>,
  run: (parsed: Extract<Parsed<C>, { kind: 'command' }>) => Promise<number>,
  bin: Session['bin'] = 'mesh-hub',
): Promise<number> {
  const voice = new Voice(terminal, asksForJson(args));
  try {
    const parsed = parse(args);
    if (parsed.kind === 'command') return await run(parsed);
    voice.out(parsed.text.trimEnd());
    return 0;
  } catch (thrown) {
    const error = asSuperfleetError(thrown);
    voice.error(error, (hint) => typedHere({ bin, typed: bin }, hint));
    if (error.code === 'SF_INTERNAL' && error.cause instanceof Error && terminal.env.SUPERFLEET_DEBUG) {
      voice.note(error.cause.stack ?? '');
    }
    return error.exitCode;
  }
}

/** Runs a bin on this process; it ends when nothing is left to do (a daemon at once), with the code of the command. */
export async function runProcess(
  main: (args: readonly string[], terminal: Terminal) => Promise<number>,
): Promise<void> {
  process.exitCode = await main(process.argv.slice(2), processTerminal());
  // All that a daemon held is down; what libp2p leaves is a timer of a second, for which nobody should wait.
  if (isDaemon()) process.exit();
}
