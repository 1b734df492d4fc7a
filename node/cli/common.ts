import { EXIT } from '../../protocol/errors.ts';
import type { NodeObject, Page } from '../api/objects.ts';
import type { CompletionCommand } from './completion-grammar.ts';
import type { DoctorCommand } from './doctor-grammar.ts';
import type { MemoryCommand } from './memory-grammar.ts';
import type { ProofCommand } from './proof-grammar.ts';
import { nodesText, nodeText } from './render.ts';
import { type Session, show } from './session.ts';
import type { TaskCommand } from './task-grammar.ts';

/** Verbs that both programs have. */
export type CommonCommand =
  | { verb: 'stop'; timeoutMs: number }
  | { verb: 'node list' }
  | { verb: 'node describe'; node: string }
  | DoctorCommand
  | CompletionCommand
  | MemoryCommand
  | ProofCommand
  | TaskCommand;

/** Runs a verb that both programs have; answers its exit code. */
export async function runCommon(
  program: 'mesh-hub' | 'mesh-node',
  command: CommonCommand,
  session: Session,
): Promise<number> {
  switch (command.verb) {
    case 'doctor':
      return (await import('./doctor.ts')).runDoctor(command, session);
    case 'completion': {
      const { completionScript } = await import('./completion-script.ts');
      session.voice.out(completionScript(program, command.shell));
      return EXIT.ok;
    }
    case 'stop':
      return (await import('./lifecycle.ts')).stopProcess(session, command.timeoutMs);
    case 'node list':
      show(session, await session.client().get<Page<NodeObject>>('/v1/nodes'), ({ items }, paint) =>
        nodesText(items, paint),
      );
      return EXIT.ok;
    case 'node describe':
      show(session, await session.client().get<NodeObject>(`/v1/nodes/${command.node}`), nodeText);
      return EXIT.ok;
    case 'memory list':
    case 'memory show':
    case 'memory search':
    case 'memory note':
    case 'memory forget':
      return (await import('./memory-commands.ts')).runMemory(command, session);
    case 'ledger prove':
      return (await import('./proof.ts')).prove(command, session);
    case 'proof verify':
      return (await import('./proof.ts')).verifyProof(command, session);
    default:
      return (await import('./task-commands.ts')).runTaskCommand(command, session);
  }
}
