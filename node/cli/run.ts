import { EXIT } from '../../protocol/errors.ts';
import { escapeText } from '../../protocol/escape.ts';
import { actMs } from '../api/client.ts';
import type { LoggedMesh, MeshObject, NodeObject, PendingLine } from '../api/objects.ts';
import { type NodeCommand, nodeGrammar, parseNode } from './command.ts';
import { runCommon } from './common.ts';
import { COMPLETE } from './completion-grammar.ts';
import { helpColumns } from './help.ts';
import { runMain } from './main.ts';
import type { Enrol, FounderProgram, JoinMesh, StartNode, StartNodeOptions } from './options.ts';
import { meshText, nodeText } from './render.ts';
import { logFormatOf, type Session, sessionOf, show } from './session.ts';
import type { Terminal } from './terminal.ts';
import { programVersion } from './version.ts';

// What a command alone needs is loaded when it runs: most of the time a small command takes is loading.

/** `mesh-node ARGS…`: answers the exit code. `founder`: what the machine runs once the mesh is handed over to it. */
export async function nodeMain(
  args: readonly string[],
  terminal: Terminal,
  founder: FounderProgram | null = null,
): Promise<number> {
  if (args[0] === COMPLETE) {
    const { answerCompletion } = await import('./completion-answer.ts');
    return answerCompletion(nodeGrammar(programVersion()).shape(), args.slice(1), terminal);
  }
  return runMain(
    args,
    terminal,
    (words) => parseNode(words, programVersion(), helpColumns(terminal.stdout.columns)),
    ({ command, global }) => runNode(command, sessionOf('mesh-node', global, terminal), args, founder),
    'mesh-node',
  );
}

/**
 * Takes a secret out of what `ps` shows every user of this machine: a token may have uses left, and this process may run
 * for weeks.
 */
function hideWord(secret: string): void {
  const words = process.argv.slice(2);
  if (words.includes(secret)) {
    process.title = ['mesh-node', ...words.map((word) => (word === secret ? 'TOKEN' : word))].join(' ');
  }
}

async function runNode(
  command: NodeCommand,
  session: Session,
  args: readonly string[],
  founder: FounderProgram | null,
): Promise<number> {
  switch (command.verb) {
    case 'join': {
      if (command.token !== null) hideWord(command.token);
      const { inBackground, inForeground, sayEnrolled, sayPending } = await import('./lifecycle.ts');
      const { isEnrolled, lookBeforeJoin } = await import('./doctor.ts');
      await lookBeforeJoin(session, command);
      const beside = founder?.beside(session.dir) ?? [];
      if (command.service)
        return (await import('./join-service.ts')).joinAsService(command, session, args, beside);
      const asks = command.token === null && command.founder === null && !isEnrolled(session.dir);
      if (asks && !session.voice.json) {
        session.voice.note('looking for a founder on this network …');
      }
      if (command.detach && command.start) return inBackground(session, args);
      const { enrol, joinMesh } = (await import('../daemon/join.ts')) as { enrol: Enrol; joinMesh: JoinMesh };
      const options = {
        ...startOptionsOf(command, session),
        token: command.token,
        mesh: command.mesh,
        owner: command.owner,
        onPending: (line: PendingLine) => sayPending(session, line),
        onNote: (line: string) => {
          if (!session.voice.json) session.voice.note(escapeText(line));
        },
      };
      if (command.start) return inForeground(session, () => joinMesh(options, founder));
      sayEnrolled(session, await enrol(options, founder));
      return EXIT.ok;
    }
    case 'start': {
      const { inBackground, inForeground } = await import('./lifecycle.ts');
      if (command.detach) return inBackground(session, args);
      const { startNode } = (await import('../daemon/start.ts')) as { startNode: StartNode };
      return inForeground(session, () => startNode(startOptionsOf(command, session), founder));
    }
    case 'status':
      show(session, await session.client().get<NodeObject>('/v1/node'), nodeText);
      return EXIT.ok;
    case 'mesh':
      show(session, await session.client().get<MeshObject | LoggedMesh>('/v1/status'), meshText);
      return EXIT.ok;
    case 'pause': {
      const body = { ms: command.ms };
      show(session, await session.client().post<NodeObject>('/v1/node/pause', body, actMs), nodeText);
      return EXIT.ok;
    }
    case 'resume':
      show(session, await session.client().post<NodeObject>('/v1/node/resume'), nodeText);
      return EXIT.ok;
    case 'leave':
      return leave(session);
    case 'models all':
    case 'models list':
    case 'models add':
    case 'models remove':
      return (await import('./models.ts')).runModels(command, session);
    case 'policy show':
    case 'policy set':
    case 'policy test':
      return (await import('./policy.ts')).runPolicy(command, session);
    case 'endpoint':
      return (await import('./endpoint.ts')).runEndpoint(command.wish, session);
    case 'service install':
    case 'service uninstall':
    case 'service status':
      return (await import('./service.ts')).runService(command, session, founder?.beside(session.dir) ?? []);
    default:
      return runCommon('mesh-node', command, session);
  }
}

const startOptionsOf = (
  command: Extract<NodeCommand, { verb: 'start' | 'join' }>,
  session: Session,
): StartNodeOptions => ({
  dir: session.dir,
  name: command.name,
  port: command.port,
  user: command.user,
  logLevel: command.logLevel,
  logFormat: logFormatOf(command.logFormat, session),
  founder: command.founder,
  slots: command.slots,
  labels: command.labels,
  policy: command.policy,
  inhibitSleep: command.inhibitSleep,
  cpuWeight: command.cpuWeight,
  memoryShare: command.memoryShare,
});

async function leave(session: Session): Promise<number> {
  const client = session.client();
  const { pid } = await client.get<{ pid: number }>('/v1/process');
  const [{ markOf }, { untilGone }] = await Promise.all([
    import('../process-mark.ts'),
    import('./lifecycle.ts'),
  ]);
  const mark = markOf(pid);
  const left = await client.post('/v1/node/leave', {}, actMs);
  await untilGone(mark, actMs, session.terminal.signal);
  show(session, left, () => 'left the mesh; this machine takes no more work from it');
  return EXIT.ok;
}
