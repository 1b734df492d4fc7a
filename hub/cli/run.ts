import { resolve } from 'node:path';
import type { DurabilityObject, InviteObject, NodeObject, Page } from '../../node/api/objects.ts';
import { runCommon } from '../../node/cli/common.ts';
import { COMPLETE } from '../../node/cli/completion-grammar.ts';
import { helpColumns } from '../../node/cli/help.ts';
import { runMain } from '../../node/cli/main.ts';
import { cell, meshText, nodeText } from '../../node/cli/render.ts';
import { logFormatOf, type Session, sessionOf, show } from '../../node/cli/session.ts';
import type { Terminal } from '../../node/cli/terminal.ts';
import { programVersion } from '../../node/cli/version.ts';
import { EXIT } from '../../protocol/errors.ts';
import { type HubCommand, hubGrammar, parseHub } from './command.ts';
import type { InitHub, StartHub } from './options.ts';

// What a command alone needs is loaded when it runs: most of the time a small command takes is loading.

/** `mesh-hub ARGS…`: answers the exit code. */
export async function hubMain(args: readonly string[], terminal: Terminal): Promise<number> {
  if (args[0] === COMPLETE) {
    const { answerCompletion } = await import('../../node/cli/completion-answer.ts');
    return answerCompletion(hubGrammar(programVersion()).shape(), args.slice(1), terminal);
  }
  return runMain(
    args,
    terminal,
    (words) => parseHub(words, programVersion(), helpColumns(terminal.stdout.columns)),
    ({ command, global }) => runHub(command, sessionOf('mesh-hub', global, terminal), args),
  );
}

async function runHub(command: HubCommand, session: Session, args: readonly string[]): Promise<number> {
  switch (command.verb) {
    case 'init':
      return init(command, session);
    case 'start': {
      const { inBackground, inForeground, sayWaiting } = await import('../../node/cli/lifecycle.ts');
      const { lookBeforeStart } = await import('../../node/cli/doctor.ts');
      await lookBeforeStart(session, command);
      if (command.detach) return inBackground(session, args);
      const { startHub } = (await import('../daemon/start.ts')) as { startHub: StartHub };
      const { name, port, user, logLevel, acceptLoss } = command;
      const logFormat = logFormatOf(command.logFormat, session);
      const doorkeeper = await doorkeeperOf(session);
      return inForeground(
        session,
        () =>
          startHub({
            dir: session.dir,
            name,
            port,
            user,
            logLevel,
            logFormat,
            acceptLoss,
            doorkeeper,
            onWaiting: (why) => sayWaiting(session, why),
          }),
        () => doorkeeper?.open(),
      );
    }
    case 'demo': {
      const { runDemo, stopDemo } = await import('./demo.ts');
      return command.stop ? stopDemo(session) : runDemo(session);
    }
    case 'status':
      return (await import('./cockpit.ts')).status(session, command.watch);
    case 'pause':
    case 'resume':
    case 'capacity show':
    case 'capacity set':
    case 'policy default':
      return (await import('./supervise.ts')).supervise(command, session);
    case 'durability': {
      const { replicas } = command;
      const path = '/v1/mesh/durability';
      const client = session.client();
      show(
        session,
        await (replicas === null
          ? client.get<DurabilityObject>(path)
          : client.post<DurabilityObject>(path, { replicas })),
        durabilityText,
      );
      return EXIT.ok;
    }
    case 'invite':
      return invite(command, session);
    case 'node approve': {
      const body = wished({ name: command.name, owner: command.owner, roles: command.roles });
      show(
        session,
        await session.client().post<NodeObject>(`/v1/joins/${command.code}/approve`, body),
        (node) => `${cell(node.name)} is in (${cell(node.id)})`,
      );
      return EXIT.ok;
    }
    case 'node reject':
      show(session, await session.client().post(`/v1/joins/${command.code}/reject`), () => 'sent away');
      return EXIT.ok;
    case 'node drain': {
      const { node, deadlineMs } = command;
      const body = deadlineMs === null ? undefined : { deadlineMs };
      show(session, await session.client().post<NodeObject>(`/v1/nodes/${node}/drain`, body), nodeText);
      return EXIT.ok;
    }
    case 'node eligible':
      show(session, await session.client().post<NodeObject>(`/v1/nodes/${command.node}/eligible`), nodeText);
      return EXIT.ok;
    case 'node rename': {
      const { node, name } = command;
      const answer = await session.client().post<NodeObject>(`/v1/nodes/${node}/rename`, { name });
      show(session, answer, () => `${cell(node)} is ${cell(name)} from now on`);
      return EXIT.ok;
    }
    case 'node revoke': {
      const answer = await session
        .client()
        .post(`/v1/nodes/${command.node}/revoke`, wished({ reason: command.reason }));
      show(session, answer, () => `${cell(command.node)} is shut out for good`);
      return EXIT.ok;
    }
    case 'budget show':
    case 'budget set':
    case 'budget price':
      return (await import('./budget.ts')).runBudget(command, session);
    case 'failures list':
    case 'failures thaw':
      return (await import('./failures.ts')).runFailures(command, session);
    case 'node trust':
    case 'trust show':
    case 'trust sampling':
      return (await import('./trust.ts')).runTrust(command, session);
    case 'ledger verify':
    case 'ledger tail':
    case 'ledger export':
    case 'ledger scrub':
      return (await import('./ledger.ts')).runLedger(command, session);
    case 'backup':
    case 'fork':
    case 'restore':
    case 'ledger import':
    case 'ledger repair':
      return (await import('./recovery.ts')).runRecovery(command, session);
    case 'handover':
    case 'promote':
      return (await import('./succession.ts')).runSuccession(command, session);
    case 'secret set':
      return (await import('./secret.ts')).setSecret(command.name, session);
    case 'secret list':
      show(session, await session.client().get<Page<unknown>>('/v1/secrets'), ({ items }) =>
        items.map(secretLine).join('\n'),
      );
      return EXIT.ok;
    case 'secret remove': {
      const removed = await session.client().json({ method: 'DELETE', path: `/v1/secrets/${command.name}` });
      show(session, removed, () => `secret ${command.name} is gone`);
      return EXIT.ok;
    }
    case 'service install':
    case 'service uninstall':
    case 'service status': {
      const { runService } = await import('../../node/cli/service.ts');
      const { secretsFolder } = await import('../daemon/secrets.ts');
      return runService(command, session, [secretsFolder(session.dir)]);
    }
    default:
      return runCommon('mesh-hub', command, session);
  }
}

/** Asks about machines that want to join, where somebody sits at the terminal; null: nobody does. */
async function doorkeeperOf({ terminal, voice, typed }: Session) {
  const [{ canAsk, TerminalDoorkeeper }, { osUser }] = await Promise.all([
    import('./doorkeeper.ts'),
    import('../../node/api/client.ts'),
  ]);
  return canAsk({ terminal, voice }) ? new TerminalDoorkeeper(terminal, { typed, user: osUser() }) : null;
}

function durabilityText({ replicas, following }: DurabilityObject): string {
  const now = `${following} ${following === 1 ? 'replica follows' : 'replicas follow'} now`;
  if (replicas === 0) return `what is acknowledged is on the founder's disk; ${now}`;
  return `what is acknowledged is on the founder's disk and on ${replicas} ${replicas === 1 ? 'replica' : 'replicas'}; ${now}`;
}

/** Only what was asked for: the founder fills in its defaults. */
const wished = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));

const secretLine = (item: unknown): string =>
  cell(typeof item === 'object' && item !== null ? ((item as { name?: unknown }).name ?? item) : item);

async function init(command: Extract<HubCommand, { verb: 'init' }>, session: Session): Promise<number> {
  const { initHub } = (await import('../daemon/init.ts')) as { initHub: InitHub };
  const { mesh, recoveryKeyFile } = await initHub({
    dir: session.dir,
    name: command.name,
    owner: command.owner,
    port: command.port,
    user: command.user,
    recoveryKeyFile: resolve(session.terminal.cwd, command.recoveryKey ?? 'superfleet-recovery.key'),
  });
  show(session, { ...mesh, recoveryKeyFile }, meshText);
  session.voice.note(`recovery key: ${recoveryKeyFile}`);
  session.voice.note('whoever has it can take the mesh over: keep it off this machine, and keep it');
  session.voice.note(`next: ${session.typed} start --detach, then ${session.typed} invite for each machine`);
  return EXIT.ok;
}

async function invite(command: Extract<HubCommand, { verb: 'invite' }>, session: Session): Promise<number> {
  const { uses, lifetimeMs, roles, labels, owner, policy, replace } = command;
  const made = await session
    .client()
    .post<InviteObject>('/v1/invites', wished({ uses, lifetimeMs, roles, labels, owner, policy, replace }));
  show(session, made, ({ token }) => token);
  const times = made.uses === 1 ? 'once' : `${made.uses} times`;
  session.voice.note(
    `good ${times}, until ${new Date(made.expiresAt).toISOString()}; on the other machine: mesh-node join TOKEN`,
  );
  if (replace !== null) {
    session.voice.note(`the machine that is ${cell(replace)} now is shut out for good when that one joins`);
  }
  return EXIT.ok;
}
