/** A process of ours as small as can be: the real lifecycle and API, and behind them nothing. Run by lifecycle.test.ts. */
import { createBaseApp } from '../../../node/api/app.ts';
import { serveApi } from '../../../node/api/server.ts';
import { inBackground, inForeground, sayPending, stopProcess } from '../../../node/cli/lifecycle.ts';
import { runMain } from '../../../node/cli/main.ts';
import { sessionOf } from '../../../node/cli/session.ts';
import { processTerminal } from '../../../node/cli/terminal.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

const args = process.argv.slice(2);
const dir = args[args.indexOf('--dir') + 1] ?? '';
const has = (word: string): boolean => args.includes(word);
const terminal = processTerminal();
const session = sessionOf('mesh-node', { dir, json: has('--json') }, terminal);

async function start() {
  if (has('refuse'))
    throw new SuperfleetError('SF_PORT_IN_USE', 'the port belongs to another', { got: '4701' });
  if (has('crash')) process.exit(9);
  if (has('pend')) {
    sayPending(session, {
      event: 'pending',
      code: '123-456-789',
      mesh: null,
      name: null,
      founder: null,
      expiresAt: null,
    });
  }
  let end: (code: number) => void = () => {};
  const done = new Promise<number>((resolve) => (end = resolve));
  const socket = has('deaf')
    ? null
    : await serveApi(
        createBaseApp(() => down()),
        dir,
      );
  const alive = setInterval(() => {}, 1000);
  const down = async (): Promise<void> => {
    clearInterval(alive);
    await socket?.close();
    end(0);
  };
  process.once('SIGTERM', () => void down());
  if (has('hang')) await done;
  console.error('started');
  return {
    ready: { event: 'ready' as const, mesh: 'm', id: 'i', name: 'n', addresses: ['/ip4/1'], online: true },
    done,
  };
}

process.exitCode = await runMain(
  args,
  terminal,
  () => ({ kind: 'command', command: null, global: { dir, json: false } }),
  () => {
    if (has('stop')) return stopProcess(session, 20_000);
    return has('--detach') ? inBackground(session, args) : inForeground(session, start);
  },
);
