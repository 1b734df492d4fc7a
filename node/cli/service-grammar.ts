import type { Grammar } from './parse.ts';
import * as v from './values.ts';

/** The `service` verbs of both programs. */
export type ServiceCommand =
  | { verb: 'service install'; user: string | null; print: boolean }
  | { verb: 'service uninstall' }
  | { verb: 'service status' };

export function addServiceGrammar<C>(
  grammar: Grammar<C | ServiceCommand>,
  bin: 'mesh-node' | 'mesh-hub',
): void {
  const what = bin === 'mesh-hub' ? 'the founder' : 'this machine’s node';
  grammar.group('service', `keep ${what} running: bring it up at every boot`);
  grammar.leaf('service', {
    usage: 'install',
    summary: `start ${what} now and at every boot: by systemd (as root for the machine, else for this user) or launchd (untested)`,
    options: [
      v.option('--user <account>', 'as root: the account to run as', v.nodeName('--user')),
      v.option('--print', 'write the unit to stdout and change nothing'),
    ],
    examples: [`sudo ${bin} service install`, `${bin} service install --print`],
    read: ({ options }) => ({
      verb: 'service install',
      user: (options.user as string | undefined) ?? null,
      print: options.print === true,
    }),
  });
  grammar.leaf('service', {
    usage: 'uninstall',
    summary: 'stop it, and start it at boot no more; the data folder stays',
    examples: [`${bin} service uninstall`],
    read: () => ({ verb: 'service uninstall' }),
  });
  grammar.leaf('service', {
    usage: 'status',
    summary: 'is it installed, does it run',
    examples: [`${bin} service status`],
    read: () => ({ verb: 'service status' }),
  });
}
