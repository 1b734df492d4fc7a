import { resolve } from 'node:path';
import { cell } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { HandoverReport, HandoverStep } from '../api/port.ts';
import type { Promote } from './options.ts';
import type { SuccessionCommand } from './succession-grammar.ts';

export async function runSuccession(command: SuccessionCommand, session: Session): Promise<number> {
  return command.verb === 'handover' ? handover(command.node, session) : promoteHere(command, session);
}

async function promoteHere(
  { recoveryKey, force, user }: Extract<SuccessionCommand, { verb: 'promote' }>,
  session: Session,
): Promise<number> {
  const { dir, terminal, voice, typed } = session;
  const { promote } = (await import('../daemon/promote.ts')) as { promote: Promote };
  const done = await promote({
    dir,
    user,
    recoveryKeyFile: resolve(terminal.cwd, recoveryKey),
    force,
    onNote: (line) => {
      if (!voice.json) voice.note(cell(line));
    },
  });
  show(session, done, ({ founder, mesh, epoch, size, root }) =>
    [`${cell(founder.name)} leads mesh ${mesh} in epoch ${epoch}`, `${size} entries, root ${root}`].join(
      '\n',
    ),
  );
  if (voice.json) return EXIT.ok;
  const { asked, lost } = done;
  voice.note(
    asked === 0
      ? 'no other member answered'
      : `${asked} other ${asked === 1 ? 'member' : 'members'} answered`,
  );
  if (lost > 0)
    voice.note(`${lost} entries that members have seen are lost: no machine that answered holds them`);
  voice.note(
    'what the lost founder logged and no replica took is lost, and so are the values of its secrets',
  );
  voice.note(`next: ${typed} start --detach; the members find it by themselves`);
  voice.note('the lost founder must not lead again: when it comes back, it becomes a member');
  return EXIT.ok;
}

const WORDS: Record<Exclude<HandoverStep['step'], 'blobs'>, string> = {
  held: 'nothing is given out until the other machine leads the mesh',
  fenced: 'the log says so: this machine is no founder any more',
};

async function handover(node: string, session: Session): Promise<number> {
  const { voice, terminal, typed } = session;
  type Line = { progress?: HandoverStep; report?: HandoverReport };
  const client = session.client();
  for await (const { progress, report } of client.lines<Line>('POST', '/v1/handover', terminal.signal, {
    node,
  })) {
    if (progress !== undefined && !voice.json) {
      const { step, left } = progress;
      voice.note(step === 'blobs' ? `${cell(node)} still copies ${left} of the mesh’s files` : WORDS[step]);
    }
    if (report === undefined) continue;
    show(session, report, ({ founder, mesh, epoch }) =>
      [
        `${cell(founder.name)} leads mesh ${mesh} in epoch ${epoch}`,
        `it is asked there now: mesh-hub status`,
      ].join('\n'),
    );
    if (!report.taken && !voice.json) {
      voice.note(
        `${cell(report.founder.name)} has not said yet that it knows: it gets the log from this machine`,
      );
    }
    if (!voice.json)
      voice.note(
        `this machine works for the mesh as a member: ${typed.replace('mesh-hub', 'mesh-node')} status`,
      );
  }
  return EXIT.ok;
}
