import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import { parseInvite } from '../../protocol/invite.ts';
import type { EnrolledLine, PendingLine } from '../api/objects.ts';
import { readMark } from '../api/socket.ts';
import { lives } from '../process-mark.ts';
import { managerOf, thisHost } from '../service/manager.ts';
import { requireRoom } from '../service/service.ts';
import { startCommand } from '../service/types.ts';
import type { NodeCommand } from './command.ts';
import { inBackground, LOOKED, sameWords, sayEnrolled, sayPending } from './lifecycle.ts';
import { shellWord } from './render.ts';
import { installService, specOf } from './service.ts';
import type { Session } from './session.ts';

type Join = Extract<NodeCommand, { verb: 'join' }>;

/** Lines of a process's last words. */
const linesMax = 200;

/**
 * `join --service`: enrols where this machine is no member yet, then installs the service, which runs it. What would keep
 * the service from being installed is told before the token is spent; where there is no service manager the machine
 * joins and works all the same, and the error (`SF_SERVICE`) says what is left to do.
 */
export async function joinAsService(
  command: Join,
  session: Session,
  args: readonly string[],
  beside: string[],
): Promise<number> {
  const manager = managerOf('mesh-node', thisHost(session.terminal.env));
  if (manager.absent === null) requireRoom(manager, session);
  const running = await runningMember(command, session);
  if (running === null) await enrolApart(session, args);
  else session.voice.note(`this machine is a member already, and process ${running} works for its mesh`);
  const spec = specOf(session, manager, beside, command.user);
  if (manager.absent === null) {
    await installService(session, manager, spec);
    return 0;
  }
  if (running === null) {
    await inBackground(session, ['start', ...(command.user === null ? [] : ['--user', command.user])]);
  }
  throw new SuperfleetError(
    'SF_SERVICE',
    `this machine has joined and works now, but no boot will start it: ${manager.absent}`,
    {
      expected: 'systemd as init, or launchd',
      got: manager.absent,
      hint: `have whatever starts programs here run: ${startCommand({ ...spec, flags: [] })
        .map(shellWord)
        .join(' ')}`,
    },
  );
}

/** Pid of the process that works with this folder already; `SF_EXISTS` where it is of another mesh than the one asked for. */
async function runningMember({ token, mesh }: Join, { dir }: Session): Promise<number | null> {
  const mark = readMark(dir);
  if (mark === null || !lives(mark)) return null;
  const { enrolledMesh, requireSameMesh } = await import('../daemon/membership.ts');
  requireSameMesh(enrolledMesh(dir), token === null ? mesh : parseInvite(token).mesh);
  return mark.pid;
}

/** Enrols in a process of its own: one that was started as root gives it up for good, and this one still needs it. */
async function enrolApart(session: Session, args: readonly string[]): Promise<void> {
  const { terminal, dir, voice } = session;
  const words = [...process.execArgv, process.argv[1] ?? '', ...sameWords(args, dir), '--no-start'];
  const child = spawn(process.execPath, words, {
    cwd: terminal.cwd,
    env: { ...terminal.env, [LOOKED]: '1' } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const interrupt = (): void => void child.kill('SIGTERM');
  terminal.signal.addEventListener('abort', interrupt, { once: true });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const said: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.push(line);
    if (said.length > linesMax) said.shift();
  });
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const event = JSON.parse(line) as EnrolledLine | PendingLine;
      if (event.event === 'pending') sayPending(session, event);
      else sayEnrolled(session, event);
    }
    const code = await ended;
    terminal.signal.throwIfAborted();
    if (code !== 0) throw errorIn(said) ?? unexplained(code, said);
  } finally {
    terminal.signal.removeEventListener('abort', interrupt);
    voice.clear();
  }
}

function errorIn(lines: string[]): SuperfleetError | null {
  const line = lines.findLast((text) => text.startsWith('{"error"'));
  if (line === undefined) return null;
  const { code, message, ...detail } = (JSON.parse(line) as { error: Record<string, string | null> }).error;
  return isErrorCode(code) ? new SuperfleetError(code, message ?? '', detail) : null;
}

const unexplained = (code: number | null, lines: string[]): SuperfleetError =>
  new SuperfleetError('SF_INTERNAL', 'joining ended without a word', {
    got: `${code === null ? 'a signal' : `exit ${code}`}: ${lines.slice(-5).join(' ')}`,
  });
