import { SuperfleetError } from '../../protocol/errors.ts';
import type { Refusal } from '../environment/admission.ts';
import { environmentName } from '../environment/digest.ts';
import { manifestName } from '../environment/manifest-name.ts';
import { reachable, someRegistry } from '../environment/owner.ts';
import { type EnvironmentPlan, planEnvironment } from '../environment/plan.ts';
import { PrepareFailure } from '../environment/prepare.ts';
import type { Prepared } from '../environment/prepared.ts';
import type { Mount } from '../sandbox/types.ts';
import type { Checkout } from './checkout.ts';
import type { AttemptContext, AttemptEnvironments } from './context.ts';
import { AttemptFailure } from './failure.ts';
import { InsideFolder } from './open-inside.ts';

/** What a refusal of the proxy says of the way there, whatever the repository asks for. */
const OF_THE_NETWORK: ReadonlySet<Refusal['reason']> = new Set(['port', 'address', 'name', 'unreachable']);

/**
 * Calls `use` with the checkout as its steps are to see it: with what the base says it depends on, prepared now if it is not here
 * yet, and gone from there when `use` has ended. `timeoutMs` is what is left of the task's time. `ahead` is called before anything
 * is prepared, and may reject to say that it need not be. Throws an `AttemptFailure` where a line of the repository's fails.
 */
export async function inEnvironment<T>(
  context: AttemptContext,
  checkout: Checkout,
  use: (checkout: Checkout, timeoutMs: number) => Promise<T>,
  ahead: () => Promise<void> = async () => {},
): Promise<T> {
  const { timeoutMs } = context.assignment.spec;
  const { environments, signal } = context;
  if (environments === null || checkout.repository === null) return use(checkout, timeoutMs);
  const { kind } = context.assignment.spec;
  if (kind === 'command' && !(await baseHasManifest(checkout))) return use(checkout, timeoutMs);
  const began = performance.now();
  const commit = context.assignment.verify?.commit ?? checkout.start;
  // A result, or a part of one, says nothing about what it is run with: the base does.
  if (commit !== null) await checkout.repository.reset(null, signal);
  const found = await prepared(context, environments, checkout, ahead);
  try {
    if (commit !== null) await checkout.repository.reset(commit, signal);
    if (found === null) return await use(checkout, timeoutMs);
    const mounts = await placed(context, checkout, found);
    const spentMs = found.here ? 0 : Math.round(performance.now() - began);
    const place = { ...checkout, mounts: [...checkout.mounts, ...mounts] };
    return await use(place, Math.max(1, timeoutMs - spentMs));
  } finally {
    found?.environment.release();
  }
}

/** Told by the commit that is checked out and by how it differs from the base. */
async function baseHasManifest({ path, changes }: Checkout): Promise<boolean> {
  const change = changes.find((each) => each.path.toString() === manifestName);
  if (change !== undefined) return change.status !== 'A';
  const root = await InsideFolder.root(path);
  try {
    return (await root.look(manifestName)) !== null;
  } finally {
    await root.close();
  }
}

interface Found {
  environment: Prepared;
  /** It was here before. */
  here: boolean;
  /** Nobody asked for it: it was detected. */
  guess: boolean;
}

/** Null: there is nothing to prepare, or what was only detected could not be. */
async function prepared(
  context: AttemptContext,
  environments: AttemptEnvironments,
  checkout: Checkout,
  ahead: () => Promise<void>,
): Promise<Found | null> {
  const { assignment, hooks, log, member, signal } = context;
  const { spec } = assignment;
  const plan = await planned(checkout, await environments.versions());
  const guess = (plan.manifest?.prepare ?? null) === null;
  if (plan.recipe.prepare.length === 0 || (guess && spec.kind === 'command')) return null;
  const store = await environments.store();
  const digest = environmentName(assignment.submitter ?? null, spec.repository?.id ?? null, plan.digest);
  const here = await store.use(digest);
  if (here !== null) {
    await log.say(`prepare: what ${manifestName} or its lock files ask for is here already`);
    return { environment: here, here: true, guess };
  }
  const { allowed, lacking } = reachable(environments.hosts(), plan.recipe.network);
  if (lacking.length > 0) {
    await ahead();
    hooks.progress('prepare', log.bytes);
    const shipped = await fromFounder(context, environments, plan, digest);
    if (shipped !== null) return { environment: shipped, here: false, guess };
  }
  if (guess && lacking.length > 0) {
    await log.say(
      `prepare: nothing. \`${plan.recipe.prepare.join('; ')}\` ${lackWords(lacking, member.name)}`,
    );
    return null;
  }
  if (lacking.length === 0) {
    await ahead();
    hooks.progress('prepare', log.bytes);
  }
  const { memoryBytes, processes, workspaceBytes: diskBytes } = spec.limits;
  let network = false;
  try {
    const environment = await store.prepare(
      {
        checkout: checkout.path,
        recipe: plan.recipe,
        digest,
        allowed,
        limits: { memoryBytes, processes, diskBytes, wallMs: spec.timeoutMs },
        log,
        onNetwork: (event) => {
          network ||= event.kind === 'refused' && OF_THE_NETWORK.has(event.refusal.reason);
        },
      },
      signal,
    );
    return { environment, here: false, guess };
  } catch (error) {
    signal.throwIfAborted();
    if (network && lacking.length === 0) {
      const shipped = await fromFounder(context, environments, plan, digest);
      if (shipped !== null) return { environment: shipped, here: false, guess };
    }
    const failure = error instanceof PrepareFailure ? failureOf(error, lacking, network, member.name) : error;
    if (!guess || (failure instanceof AttemptFailure && failure.reason === 'timeout')) throw failure;
    await log.say(`prepare: it goes on without: ${failure instanceof Error ? failure.message : failure}`);
    return null;
  }
}

/** What this machine may not or cannot prepare, as the founder's prepared it; null: it has none for this task, or it could not be had. */
async function fromFounder(
  { assignment, log, signal }: AttemptContext,
  environments: AttemptEnvironments,
  plan: EnvironmentPlan,
  name: string,
): Promise<Prepared | null> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(assignment.spec.timeoutMs)]);
  try {
    const shipped = await environments.shipped(
      {
        task: assignment.task,
        digest: plan.digest,
        name,
        makes: plan.recipe.makes,
        bytesMax: assignment.spec.limits.workspaceBytes,
      },
      within,
    );
    if (shipped === null) return null;
    const { files, bytes, environment } = shipped;
    const many = files === null ? '' : `${files} files, `;
    await log.say(`prepare: from the founder's machine, ${many}${(bytes / 1024 ** 2).toFixed(1)} MiB`);
    return environment;
  } catch (error) {
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    await log.say(`prepare: what the founder's machine has could not be had: ${why}`);
    return null;
  }
}

async function planned(checkout: Checkout, versions: Record<string, string>): Promise<EnvironmentPlan> {
  try {
    return await planEnvironment(checkout.path, versions);
  } catch (error) {
    if (!(error instanceof SuperfleetError) || error.code !== 'SF_USAGE') throw error;
    const words = [
      error.message,
      error.expected && `expected ${error.expected}`,
      error.got && `got ${error.got}`,
    ];
    throw new AttemptFailure('environment', 'task', words.filter(Boolean).join('; '));
  }
}

async function placed(context: AttemptContext, checkout: Checkout, found: Found): Promise<Mount[]> {
  const { environment, guess } = found;
  try {
    await checkout.repository?.leaveOut(environment.paths);
    return await environment.placeIn(checkout.path, context.signal);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof SuperfleetError) || error.code !== 'SF_FOLDER') throw error;
    const words = `${error.message}; ${error.hint ?? ''}`;
    if (!guess) throw new AttemptFailure('environment', 'task', words);
    await context.log.say(`prepare: it goes on without: ${words}`);
    return [];
  }
}

/** A line is the task's fault; what it needs and this machine lacks is the machine's. */
function failureOf(
  error: PrepareFailure,
  lacking: readonly string[],
  network: boolean,
  member: string,
): AttemptFailure {
  const { exitCode, killedBy, message } = error;
  if (killedBy === 'timeout') return new AttemptFailure('timeout', 'task', message);
  if (killedBy !== null && killedBy !== 'stopped') return new AttemptFailure('environment', 'task', message);
  if (exitCode === 126 || exitCode === 127) {
    const words = `${message}: a program that it needs is not on ${member}. Install it there, or send the task to a member that has it (--on, --label).`;
    return new AttemptFailure('environment', 'machine', words);
  }
  if (lacking.length > 0)
    return new AttemptFailure('environment', 'machine', `${message}. It ${lackWords(lacking, member)}`);
  const machine = exitCode === null || network;
  return new AttemptFailure('environment', machine ? 'machine' : 'task', message);
}

const lackWords = (lacking: readonly string[], member: string): string => {
  const hosts = lacking.includes(someRegistry) ? '[HOST]' : JSON.stringify(lacking);
  return `needs ${lacking.join(', ')}, which the owner of ${member} may allow: \`"environment": {"hosts": ${hosts}}\` in config.json there.`;
};
