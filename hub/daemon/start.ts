import { noWishes, type Running } from '../../node/cli/options.ts';
import type { Founder } from '../../node/daemon/founder-role.ts';
import { markFolder } from '../../node/daemon/instance-mark.ts';
import { openMachine } from '../../node/daemon/machine.ts';
import { startMember } from '../../node/daemon/run-member.ts';
import { type Stage, stageOf } from '../../node/daemon/stage.ts';
import { living } from '../../node/daemon/start.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { StartHub, StartHubOptions } from '../cli/options.ts';
import { estateOf } from './estate.ts';
import { endNewEpoch, openNewEpoch } from './new-epoch.ts';
import { readRecoveryKey } from './recovery-key.ts';
import { RelievedError } from './relieved.ts';
import { type FounderWishes, runHub } from './run.ts';
import { secretsFolder } from './secrets.ts';
import { stepDown } from './step-down.ts';

/** `mesh-hub start`: the founder and its own member, in one process. */
export const startHub: StartHub = async (options: StartHubOptions): Promise<Running> => {
  const { dir, doorkeeper, acceptLoss } = options;
  // While root may still read it.
  const recovery = acceptLoss === null ? null : readRecoveryKey(acceptLoss.recoveryKeyFile);
  const beside = [secretsFolder(dir), markFolder(dir)];
  const aroundLog = (write: () => void): void => (doorkeeper === null ? write() : doorkeeper.around(write));
  const machine = await openMachine({ ...options, create: false, beside, aroundLog });
  return living(machine, async (lifetime) => {
    const stage = stageOf(machine, lifetime, options.port);
    if (machine.config.kind !== 'node') return runFounder(stage, { ...options, recovery });
    machine.logger.warn('another machine is the founder of this mesh: this one works as a member');
    return startMember(stage, noWishes, successor);
  });
};

/** The founder on a machine that was a member's until now. */
export const runSuccessor = (stage: Stage): Promise<Running['ready']> =>
  runFounder(stage, {
    doorkeeper: null,
    recovery: null,
    onWaiting: ({ code, message, hint }) => stage.machine.logger.warn({ code, hint }, message),
  });

/** What a member that this process becomes may be made again. */
const successor: Founder = { beside: [], needs: [], run: runSuccessor, estate: estateOf };

/** Runs the founder; where its own log says that the mesh is another one's, a member. */
async function runFounder(stage: Stage, options: FounderWishes): Promise<Running['ready']> {
  const { machine, lifetime } = stage;
  try {
    return await runHub(stage, options, (membership) => startMember(stage, noWishes, successor, membership));
  } catch (thrown) {
    const { code } = asSuperfleetError(thrown);
    const { recovery } = options;
    if (recovery !== null && (code === 'SF_BEHIND' || code === 'SF_EQUIVOCATION')) {
      await lifetime.clear();
      const epoch = await openNewEpoch(machine, recovery);
      machine.logger.warn({ epoch }, `what was lost is given up: ${(thrown as Error).message}`);
      return runFounder(stage, { ...options, recovery: null });
    }
    if (code !== 'SF_FENCED') throw thrown;
    machine.logger.warn((thrown as Error).message);
    await lifetime.clear();
    const told = thrown instanceof RelievedError ? thrown.told : null;
    if (told === null && (await endNewEpoch(machine))) return runFounder(stage, options);
    return startMember(stage, noWishes, successor, await stepDown(machine, told));
  }
}
