import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { escapeText } from '../../protocol/escape.ts';
import { parseInvite } from '../../protocol/invite.ts';
import { applyRepairs } from '../doctor/apply.ts';
import { type DoctorOptions, factsOf, look } from '../doctor/doctor.ts';
import { type Finding, isAble, obstacle, renderBriefly, renderFindings, verdict } from '../doctor/finding.ts';
import { type Repair, repairsFor, typed } from '../doctor/repair.ts';
import { findingsOf } from '../doctor/table.ts';
import { folderPaths } from '../folder.ts';
import type { DoctorCommand } from './doctor-grammar.ts';
import { LOOKED } from './lifecycle.ts';
import type { Session } from './session.ts';

/** `doctor` of both bins: answers the exit code. */
export async function runDoctor(command: DoctorCommand, session: Session): Promise<number> {
  const { terminal, voice } = session;
  if (command.look !== null) {
    voice.document(await look(command.look, terminal.signal));
    return EXIT.ok;
  }
  const options: DoctorOptions = {
    bin: session.bin,
    dir: session.dir,
    ...(command.founder === null ? {} : { founders: [command.founder] }),
    port: command.port,
  };
  const facts = await factsOf(options, terminal.signal);
  const findings = findingsOf(facts);
  const repairs = repairsFor(
    findings.map(({ finding }) => finding),
    facts.means,
  );
  if (!command.fix) return tell(session, findings, repairs, null);
  return fix(command, session, options, { findings, repairs, elevate: facts.means.elevate });
}

interface Before {
  findings: Finding[];
  repairs: Repair[];
  elevate: 'root' | 'sudo' | null;
}

async function fix(
  { yes }: DoctorCommand,
  session: Session,
  options: DoctorOptions,
  { findings, repairs, elevate }: Before,
): Promise<number> {
  const { voice, terminal } = session;
  if (repairs.length === 0) {
    voice.note('there is nothing here that --fix can mend');
    return tell(session, findings, repairs, null);
  }
  const asks = (terminal.stdin as { isTTY?: boolean }).isTTY === true && terminal.stderr.isTTY === true;
  const may = elevate !== null && (yes || asks);
  if (!voice.json) voice.note(`these commands would mend it:\n${commandsOf(repairs, '  ')}`);
  if (!may) {
    voice.note(
      elevate === null
        ? 'nothing was changed: this user is not root and there is no sudo; run them as root'
        : 'nothing was changed: there is no terminal to ask on; run them, or say --fix --yes',
    );
    return tell(session, findings, repairs, null);
  }
  if (!yes && !(await agreed(session))) {
    voice.note('nothing was changed');
    return tell(session, findings, repairs, null);
  }
  const applied = await applyRepairs(repairs, {
    env: terminal.env as NodeJS.ProcessEnv,
    signal: terminal.signal,
    onStep: (line) => voice.note(`+ ${line.split('\n')[0]}`),
  });
  for (const { fault } of applied) if (fault !== null) voice.note(escapeText(`this did not work: ${fault}`));
  const done = applied.filter(({ fault }) => fault === null).map(({ repair }) => repair);
  return tell(session, findingsOf(await factsOf(options, terminal.signal)), repairs, done);
}

const commandsOf = (repairs: readonly Repair[], indent: string): string =>
  repairs
    .flatMap(({ steps }) => steps.map(typed))
    .flatMap((line) => line.split('\n'))
    .map((line) => `${indent}${line}`)
    .join('\n');

async function agreed({ terminal }: Session): Promise<boolean> {
  const reader = createInterface({ input: terminal.stdin, output: terminal.stderr });
  // Ctrl-C at the question is Ctrl-C, and the end of input is a no.
  const closed = new Promise<string>((resolve) => reader.once('close', () => resolve('')));
  reader.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    const answer = await Promise.race([
      reader.question('run them now? [y/N] ', { signal: terminal.signal }),
      closed,
    ]);
    return /^y(es)?$/i.test(answer.trim());
  } catch (thrown) {
    terminal.signal.throwIfAborted();
    throw thrown;
  } finally {
    reader.close();
  }
}

/** Says what was found; `done` are the repairs that were made, null: none was tried. */
function tell(
  { voice }: Session,
  findings: readonly Finding[],
  repairs: readonly Repair[],
  done: readonly Repair[] | null,
): number {
  const able = isAble(findings);
  if (voice.json) {
    const mends = repairs.map((repair) => ({
      findings: repair.findings,
      title: repair.title,
      commands: repair.steps.map(typed),
      done: done === null ? null : done.includes(repair),
    }));
    voice.document({ able, joins: obstacle(findings) === null, checks: findings, repairs: mends });
  } else {
    voice.out(escapeText(`${renderFindings(findings)}\n\n${verdict(findings)}`));
  }
  return exitOf(findings);
}

/** The first lack decides; a founder that does not answer is no fault of this machine. */
function exitOf(findings: readonly Finding[]): number {
  const stops = findings.filter((finding) => finding.stops !== null);
  const [first] = stops.filter(({ code }) => code !== 'SF_UNREACHABLE');
  if (first === undefined) return stops.length === 0 ? EXIT.ok : EXIT.unreachable;
  return first.code === 'SF_USAGE' ? EXIT.usage : EXIT.machine;
}

/** Whether the folder is a member's: `join` only starts it then. */
export const isEnrolled = (dir: string): boolean => existsSync(folderPaths(dir).membership);

/** What `join` looks at first. A machine that is a member already is only started: its founder may be away. */
export async function lookBeforeJoin(
  session: Session,
  { token, founder, user }: { token: string | null; founder: string | null; user: string | null },
): Promise<void> {
  const enrolled = isEnrolled(session.dir);
  // Read before anything is looked at: a mistyped token is the person's to mend.
  const invited = token === null ? [] : parseInvite(token).addresses;
  const places = [...(founder === null ? [] : [founder]), ...invited];
  await lookFirst(session, {
    user,
    founders: enrolled ? null : places,
    ...(enrolled || places.length > 0 ? { mdns: false } : {}),
  });
}

/** What the first `mesh-hub start` of a data folder looks at first. */
export async function lookBeforeStart(
  session: Session,
  { user, port }: { user: string | null; port: number | null },
): Promise<void> {
  const { config, index } = folderPaths(session.dir);
  // The index is opened by the first start, and by nothing before it.
  if (!existsSync(config) || existsSync(join(index, 'CURRENT'))) return;
  await lookFirst(session, { user, port, founders: null });
}

/**
 * A brief look; lacks are told on stderr. Throws where one keeps the machine from joining at all, with the code that it
 * then has; a machine without a sandbox goes on.
 */
async function lookFirst(session: Session, options: Omit<DoctorOptions, 'bin' | 'dir'>): Promise<void> {
  const { bin, dir, voice, terminal } = session;
  if ((terminal.env[LOOKED] ?? '') !== '') return;
  const facts = await factsOf({ bin, dir, brief: true, ...options }, terminal.signal);
  const findings = findingsOf(facts);
  if (voice.json) {
    const lacking = findings.filter(({ status }) => status !== 'ok');
    voice.note(JSON.stringify({ event: 'doctor', able: isAble(findings), checks: lacking }));
  } else {
    voice.note(escapeText(renderBriefly(findings)));
    if (!isAble(findings) && obstacle(findings) === null) {
      voice.note(
        `it ${bin === 'mesh-hub' ? 'starts' : 'joins'} all the same, and runs no tasks until that is mended`,
      );
    }
  }
  // One that is busy is slow to greet: joining itself has the patience for that.
  const stop = obstacle(findings.filter(({ finding }) => finding !== 'founder/silent'));
  if (stop === null) return;
  throw new SuperfleetError(stop.code ?? 'SF_FOLDER', stop.what, {
    expected: stop.why,
    got: stop.finding,
    hint: stop.how,
  });
}
