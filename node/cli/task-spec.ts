import type { CommandSpecInput } from '../../protocol/task.ts';
import type { SpecToSend } from '../submit/from-manifest.ts';
import type { Asked } from '../submit/post-task.ts';
import type { SendCommand, TaskWishes } from './send-grammar.ts';

/** What is asked of the executor. */
export function specOf(command: SendCommand): SpecToSend {
  const shared = sharedOf(command.wishes);
  return command.verb === 'task run'
    ? { kind: 'command', argv: command.wishes.argv, ...shared }
    : { kind: 'code', code: command.wishes.code, ...shared };
}

/** Left out where nothing is asked, so that a founder of an older release takes the task. */
export const askedOf = ({ schedule, once, allowWaiting }: SendCommand): Asked => ({
  ...(schedule === null ? {} : { schedule }),
  ...(once ? { once } : {}),
  unmet: allowWaiting ? 'say' : 'refuse',
});

/** Only what was asked for: the founder fills in its defaults. */
function sharedOf(wishes: TaskWishes): Omit<CommandSpecInput, 'repository' | 'kind' | 'argv'> {
  const limits = {
    ...(wishes.memoryBytes === null ? {} : { memoryBytes: wishes.memoryBytes }),
    ...(wishes.processes === null ? {} : { processes: wishes.processes }),
    ...(wishes.workspaceBytes === null ? {} : { workspaceBytes: wishes.workspaceBytes }),
  };
  return {
    ...(wishes.checks === null ? {} : { checks: wishes.checks }),
    ...(wishes.checkFiles === null ? {} : { checkFiles: wishes.checkFiles }),
    env: wishes.env,
    secrets: wishes.secrets,
    artifacts: wishes.artifacts,
    labels: wishes.labels,
    // Left out where nothing is asked, so that a founder of an older release takes the task.
    ...(wishes.model === null ? {} : { model: wishes.model }),
    ...(Object.keys(wishes.tools).length === 0 ? {} : { tools: wishes.tools }),
    on: wishes.on,
    requireVerified: wishes.requireVerified,
    limits,
    ...(wishes.timeoutMs === null ? {} : { timeoutMs: wishes.timeoutMs }),
    ...(wishes.checkTimeoutMs === null ? {} : { checkTimeoutMs: wishes.checkTimeoutMs }),
    ...(wishes.retries === null ? {} : { retries: wishes.retries }),
  };
}
