import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, Page, TaskDetail, TaskObject } from '../../node/api/objects.ts';
import { cell, shellWord } from '../../node/cli/render.ts';
import type { Session } from '../../node/cli/session.ts';
import { isTerminal } from '../../node/cli/watch.ts';
import { gitIn } from '../../node/submit/git.ts';
import { openRepository } from '../../node/submit/repository.ts';
import { submit } from '../../node/submit/submit.ts';
import { asSuperfleetError, EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { type DemoTask, demoFiles, demoGoal, demoTasks } from './demo-tasks.ts';

/** The task whose result is shown first has so long; the others end by themselves. */
const firstResultMs = 60_000;
/** Tasks on a page of a list, and pages looked at for what a demo sent. */
const pageTasks = 1000;
const pagesMax = 100;
const unended = 'proposed,queued,assigned,running,executed';

/** What lies in a demo's folder besides its repository. */
interface Demo {
  mesh: string;
  /** Carried by each of its tasks, so that all are found again, whatever was interrupted. */
  correlation: string;
}

/** Where a mesh's demo lies: beside the data folder, which holds the mesh and nothing else. */
export const demoFolder = (dir: string): string => `${dir}-demo`;

/**
 * `mesh-hub demo`: a repository of its own and a dozen real tasks on it, then what to look at. Interrupted before all are
 * sent it takes back what it made.
 */
export async function runDemo(session: Session): Promise<number> {
  const { voice, terminal, dir, typed } = session;
  const { signal } = terminal;
  const status = await session.client().get<MeshObject>('/v1/status');
  refuseUnable(status, typed);
  const folder = demoFolder(dir);
  const correlation = `demo-${Date.now().toString(36)}`;
  makeFolder(folder, { mesh: status.mesh, correlation }, typed);
  const client = session.client(correlation);
  const hasModel = await offersModel(client);
  let sent: { task: DemoTask; id: string }[];
  try {
    sent = await sendAll(session, client, folder, hasModel ? [...demoTasks, demoGoal] : demoTasks);
  } catch (thrown) {
    voice.clear();
    const left = await stopTasks(client, correlation).then(
      () => rmSync(folder, { recursive: true, force: true }),
      () => `${typed} demo --stop takes away what was made`,
    );
    if (signal.aborted)
      throw new SuperfleetError('SF_INTERRUPTED', 'interrupted; nothing of the demo is left', {
        hint: left ?? null,
      });
    throw thrown;
  }
  const id = (name: string): string => sent.find(({ task }) => task.name === name)!.id;
  const repository = join(folder, 'repository');
  try {
    await untilEnded(session, client, id('mended'));
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
    throw new SuperfleetError('SF_INTERRUPTED', `interrupted; the ${sent.length} tasks of the demo go on`, {
      hint: `${typed} task list shows them; ${typed} demo --stop ends them`,
    });
  }
  if (voice.json) {
    const tasks = sent.map(({ task, id }) => ({ name: task.name, about: task.about, id }));
    voice.document({ mesh: status.mesh, repository, correlation, tasks });
    return EXIT.ok;
  }
  const receipt = shellWord(join(folder, 'receipt.json'));
  const lines: [command: string, about: string][] = [
    [`${typed} task list`, 'all of them, as they go'],
    [`${typed} task why ${id('waiting')}`, 'why one waits: it asks for a label that no machine has'],
    [`${typed} task logs -f ${id('slow')}`, 'output while it comes'],
    [`${typed} task describe ${id('failing')}`, 'one that failed, and why'],
    [`${typed} task diff ${id('mended')} --repo ${shellWord(repository)}`, 'what made a red check green'],
    [`${typed} receipt show ${id('mended')} --output ${receipt}`, 'the signed receipt of that'],
    [`${typed} receipt verify ${receipt} --mesh ${status.mesh}`, 'checked, as anybody can, offline'],
    ...(hasModel
      ? [
          [`${typed} task logs -f ${id('goal')}`, 'a goal, and what the model does about it'] as [
            string,
            string,
          ],
        ]
      : []),
    [`${typed} demo --stop`, 'ends what still runs, and takes the repository away'],
  ];
  voice.out(`${sent.length} tasks are sent, on the repository ${cell(repository)}. Look around:`);
  for (const [command, about] of lines) voice.out(`\n  # ${about}\n  ${command}`);
  if (!hasModel) {
    const { code, checks } = demoGoal.spec;
    const goal = `task code ${shellWord(code.goal)} --check ${shellWord(checks[0])}`;
    voice.out(
      `\nNo machine of this mesh offers a model. With one (such as Ollama, and a model pulled) the demo would send it a goal too:\n  ${typed} ${goal} --repo ${shellWord(repository)}`,
    );
  }
  return EXIT.ok;
}

/** `mesh-hub demo --stop`: ends the tasks of the demo that still go on, and takes its folder away. */
export async function stopDemo(session: Session): Promise<number> {
  const { voice, dir } = session;
  const folder = demoFolder(dir);
  const demo = readDemo(folder);
  let stopped: string[] = [];
  if (demo !== null) {
    stopped = await stopTasks(session.client(), demo.correlation);
    rmSync(folder, { recursive: true, force: true });
  }
  if (voice.json) voice.document({ stopped, folder: demo === null ? null : folder });
  else if (demo === null) voice.note(`there is no demo at ${cell(folder)}`);
  else voice.note(`the demo is gone: ${stopped.length} tasks cancelled; what ended stays in the log`);
  return EXIT.ok;
}

function refuseUnable({ slots, paused }: MeshObject, typed: string): void {
  if (paused) {
    throw new SuperfleetError('SF_CONFLICT', 'the mesh is paused, so no task would run', {
      expected: 'a mesh that gives out work',
      got: 'paused',
      hint: `${typed} resume`,
    });
  }
  if (slots.total > 0) return;
  throw new SuperfleetError('SF_CONFLICT', 'no machine of this mesh can take a task', {
    expected: 'a machine online that takes work; two, so that one verifies what the other did',
    got: 'no slot',
    hint: `${typed} invite prints a token; on another machine: mesh-node join TOKEN`,
  });
}

function makeFolder(folder: string, demo: Demo, typed: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new SuperfleetError('SF_FOLDER', `the folder ${folder} cannot be made`, {
        got: (cause as Error).message,
        cause,
      });
    throw new SuperfleetError('SF_EXISTS', 'a demo is there already', {
      expected: 'no demo',
      got: folder,
      hint: `${typed} demo --stop takes it away`,
    });
  }
  writeFileSync(join(folder, 'demo.json'), `${JSON.stringify(demo)}\n`, { mode: 0o600 });
}

/** null: there is none. A folder that does not say that it is a demo's is nobody's to remove. */
function readDemo(folder: string): Demo | null {
  const path = join(folder, 'demo.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return null;
  }
  try {
    const demo = JSON.parse(text) as Partial<Demo>;
    if (typeof demo.correlation === 'string' && typeof demo.mesh === 'string') return demo as Demo;
  } catch {
    // Told below.
  }
  throw new SuperfleetError('SF_FOLDER', `${path} is not what a demo leaves`, {
    expected: 'the mesh and the correlation of a demo',
    got: text.slice(0, 200),
    hint: `look into ${folder}, and remove it yourself`,
  });
}

async function sendAll(
  { voice, terminal }: Session,
  client: Client,
  folder: string,
  tasks: readonly DemoTask[],
): Promise<{ task: DemoTask; id: string }[]> {
  const { signal } = terminal;
  const path = join(folder, 'repository');
  mkdirSync(path);
  for (const [name, text] of Object.entries(demoFiles)) writeFileSync(join(path, name), text);
  const by = { name: 'Superfleet demo', email: 'demo@example.invalid' };
  const env = {
    ...terminal.env,
    GIT_AUTHOR_NAME: by.name,
    GIT_AUTHOR_EMAIL: by.email,
    GIT_COMMITTER_NAME: by.name,
    GIT_COMMITTER_EMAIL: by.email,
  };
  const git = gitIn(path, env, signal);
  await git(['init', '--quiet', '--initial-branch=main']);
  await git(['add', '--all']);
  await git(['commit', '--quiet', '--no-gpg-sign', '--message', 'a greeter, misspelt']);
  const repository = await openRepository(path, { cwd: folder, env, signal });
  const sent: { task: DemoTask; id: string }[] = [];
  for (const task of tasks) {
    signal.throwIfAborted();
    voice.progress(`sending task ${sent.length + 1} of ${tasks.length}: ${task.name}`);
    const spec = 'kind' in task.spec ? task.spec : { kind: 'command' as const, ...task.spec };
    const made =
      task.bare === true
        ? await client.post<TaskObject>('/v1/tasks', { spec, bundle: null })
        : await submit(repository, 'HEAD', spec, { client, env, signal });
    sent.push({ task, id: made.id });
  }
  return sent;
}

/** Some machine that is there would be asked to pursue a goal. */
async function offersModel(client: Client): Promise<boolean> {
  const { items } = await client.get<Page<NodeObject>>('/v1/nodes');
  return items.some(({ state, models, slots }) => state === 'online' && models.length > 0 && slots.total > 0);
}

/** Waits for the end of a task, or a while; says how it went. */
async function untilEnded({ voice, terminal }: Session, client: Client, id: string): Promise<void> {
  const late = AbortSignal.timeout(firstResultMs);
  const both = AbortSignal.any([terminal.signal, late]);
  try {
    for await (const task of client.lines<TaskDetail>('GET', `/v1/tasks/${id}/watch`, both)) {
      voice.progress(`the first result: task ${id} is ${task.state}`);
      if (isTerminal(task.state)) return;
    }
  } catch (thrown) {
    if (!late.aborted) throw thrown;
    voice.note(`task ${id} has not ended yet; what is said of its result holds when it has`);
  } finally {
    voice.clear();
  }
}

/** Cancels what this correlation sent and that has not ended; answers the ids. */
async function stopTasks(client: Client, correlation: string): Promise<string[]> {
  const stopped: string[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < pagesMax; page++) {
    const query = new URLSearchParams({ limit: String(pageTasks), state: unended });
    if (cursor !== null) query.set('cursor', cursor);
    const found: Page<TaskObject> = await client.get<Page<TaskObject>>(`/v1/tasks?${query}`);
    for (const task of found.items) {
      if (task.correlation !== correlation) continue;
      try {
        await client.post(`/v1/tasks/${task.id}/stop`);
        stopped.push(task.id);
      } catch (thrown) {
        // It has ended meanwhile.
        if (asSuperfleetError(thrown).code !== 'SF_CONFLICT') throw thrown;
      }
    }
    cursor = found.next;
    if (cursor === null) break;
  }
  return stopped;
}
