import type { RepositoryInput } from '../../protocol/task.ts';
import { manifestName } from '../environment/manifest-name.ts';
import { somePaths } from '../submit/repository.ts';
import type { OnProgress } from '../submit/send.ts';
import type { Told } from '../submit/submit.ts';
import { cell, shellWord } from './render.ts';
import type { Voice } from './terminal.ts';

/** What a person should know of what was sent, a line each: what did not go along, and what to do about it. */
export function submissionNotes({ base, ref }: RepositoryInput, told: Told, below: boolean): string[] {
  const { dirty, snapshotOf, nested, submodules, pointers } = told;
  const named = (paths: readonly string[]): string => cell(somePaths(paths));
  const lines: string[] = [];
  if (dirty.length > 0) {
    const files = dirty.length === 1 ? '1 uncommitted change is' : `${dirty.length} uncommitted changes are`;
    const paths = named(dirty.map(({ path }) => path));
    lines.push(`note: ${files} not sent (${paths}); the task runs on ${base.slice(0, 12)} (${cell(ref)})`);
    lines.push('      --include-dirty sends your files as they are');
  }
  if (snapshotOf !== undefined) {
    const of = snapshotOf === null ? 'your files' : `your files on ${snapshotOf.slice(0, 12)}`;
    lines.push(`note: the task runs on ${base.slice(0, 12)}, a snapshot of ${of}; nothing was changed here`);
  }
  if (told.withoutHistory) {
    lines.push('note: this clone is shallow: the task gets no history; git fetch --unshallow makes it whole');
  }
  if (submodules.length > 0) {
    lines.push(`note: submodules are not sent, the task finds empty folders: ${named(submodules)}`);
    lines.push(
      '      what it needs of them has to be in the repository (git subtree), or send them by --repo',
    );
  }
  if (nested.length > 0) lines.push(`note: repositories inside this one are not sent: ${named(nested)}`);
  if (pointers.length > 0) {
    const files = pointers.length === 1 ? '1 file of Git LFS is' : `${pointers.length} files of Git LFS are`;
    lines.push(`note: ${files} sent as a pointer, without the content: ${named(pointers)}`);
  }
  lines.push(...manifestNotes(told));
  if (below) lines.push('note: the task begins at the top of the repository, not in this folder');
  return lines;
}

/** What the task has of the repository's manifest: a person sees which checks decide, and what else holds. */
function manifestNotes({ checks, fromManifest }: Told): string[] {
  const others = fromManifest.filter((name) => name !== 'checks');
  return [
    ...(fromManifest.includes('checks') && checks.length > 0
      ? [
          `note: checks of ${manifestName}: ${checks.map((line) => cell(line)).join('; ')} (--check names others, --no-check none)`,
        ]
      : []),
    ...(others.length > 0 ? [`note: also of ${manifestName}: ${others.join(', ')}; flags go before it`] : []),
  ];
}

/** A command line in quotes is the name of one program to a machine that uses no shell; null: it is none. */
export function quotedCommandNote(argv: readonly string[]): string | null {
  const [line = ''] = argv;
  if (argv.length !== 1 || !/\S\s+\S/.test(line)) return null;
  return `note: ${cell(shellWord(line))} is run as one program of that name; without the quotes, or as sh -c ${cell(shellWord(line))}, it is a command line`;
}

/** What a task whose output ends so has run into; null: nothing that is known. */
export function causeNote(tail: string): string | null {
  const asks =
    /ENOTFOUND|EAI_AGAIN|ENETUNREACH|could not resolve|name resolution|network is unreachable|ENOTCACHED|GOPROXY=off|--offline was specified|offline mode \(|from versions: none/i;
  return asks.test(tail)
    ? 'note: a task has no network; what it needs must be in the commit, or under /usr of the machine'
    : null;
}

/** Nothing is shown of what takes less. */
const shownAfterMs = 1000;
const shownEveryMs = 200;

/** A line of progress for a terminal, once sending takes long. */
export function sendingProgress(voice: Pick<Voice, 'progress'>): OnProgress {
  const began = performance.now();
  let next = began + shownAfterMs;
  return (step, done, total) => {
    const now = performance.now();
    if (now < next) return;
    next = now + shownEveryMs;
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    const size = step === 'sending' ? `${Math.ceil(total / 2 ** 20)} MiB` : `${total} objects`;
    voice.progress(`${step === 'sending' ? 'sending' : 'bundling'} the repository: ${percent}% of ${size}`);
  };
}
