import type { Receipt } from '../../protocol/receipt.ts';
import type { ForeignRepository } from './foreign-repository.ts';
import type { Mirror } from './mirror.ts';
import { samePatchIn, sameSoleChange } from './same-patch.ts';

/** What a repository says about the commit of a receipt. */
export interface RepositoryMatch {
  path: string;
  /** The commit of the receipt, and whether it is here. */
  commit: string | null;
  there: boolean;
  tree: string | null;
  parents: string[];
  /** Whether the history of HEAD holds it; null where that could not be seen. */
  inHead: boolean | null;
  /** Some of the branches and tags that hold it. */
  refs: string[];
  /** Commits of HEAD that make the same change and are not it. */
  samePatch: string[];
  /** Why the repository does not bear the receipt out; null where it does. */
  why: string | null;
  sentences: string[];
}

const refsNamedMax = 5;
/** Commits between the receipt's and HEAD whose ids are worked out again. */
const chainMax = 100_000;

/** Holds a receipt, whose signatures are checked elsewhere, against a repository. `revision`: the commit a person asks about. */
export async function matchRepository(
  receipt: Receipt,
  repository: ForeignRepository,
  mirror: Mirror,
  revision: string | null,
): Promise<RepositoryMatch> {
  const { commit, spec } = receipt;
  const base = spec.repository?.base ?? null;
  const match: RepositoryMatch = {
    path: repository.path,
    commit,
    there: false,
    tree: null,
    parents: [],
    inHead: null,
    refs: [],
    samePatch: [],
    why: null,
    sentences: [],
  };
  const not = (why: string): RepositoryMatch => Object.assign(match, { why });
  if (commit === null) return not('the task gave no commit, so a repository has nothing to show');
  const asked = revision === null ? null : await mirror.commit(revision);
  if (revision !== null && asked === null) return not(`${repository.path} has no commit named ${revision}`);

  if ((await mirror.commit(commit)) !== commit)
    return not(await absence(receipt, commit, repository, mirror));
  match.there = true;
  const raw = (await mirror.bytes(['cat-file', 'commit', commit])).toString('utf8');
  const head = raw.slice(0, raw.indexOf('\n\n')).split('\n');
  match.tree = head.find((line) => line.startsWith('tree '))?.slice(5) ?? null;
  match.parents = head.filter((line) => line.startsWith('parent ')).map((line) => line.slice(7));
  if (match.parents.join() !== (base ?? '')) {
    return not(
      `commit ${commit} lies on ${match.parents.join(', ') || 'nothing'}, and not on ${base ?? 'nothing'} as the receipt says`,
    );
  }
  const tip = repository.head === null ? null : await mirror.commit('HEAD');
  match.inHead = tip === null ? null : await isIn(mirror, commit, tip);
  match.refs = await refsWith(mirror, commit);
  const chain = match.inHead === true && tip !== null ? await between(mirror, commit, tip) : [];
  if (!(await mirror.isGenuine(commit, chain ?? []).catch(() => false))) {
    return not('objects of the repository are damaged or forged: their bytes do not give their ids');
  }
  if (chain === null) match.inHead = null;
  if (match.inHead !== true && tip !== null && base !== null) {
    match.samePatch = await samePatchIn(mirror, { commit, base, tip });
  }
  if (asked !== null && asked !== commit) {
    return not(await otherCommit(mirror, { commit, base, asked, revision: revision ?? asked }));
  }
  match.sentences = told(match, commit, base);
  return match;
}

/** Why the commit is not there, as far as can be seen. */
async function absence(
  { spec, task }: Receipt,
  commit: string,
  repository: ForeignRepository,
  mirror: Mirror,
): Promise<string> {
  const root = spec.repository?.id ?? null;
  const { path } = repository;
  if (root !== null && repository.shallow.length === 0 && (await mirror.commit(root)) === null) {
    return `it is of another repository: of one whose first commit is ${root}, which ${path} does not have`;
  }
  const words = `Superfleet-Task: ${task}`;
  const search = ['rev-list', '--max-count=1', '--fixed-strings', `--grep=${words}`, '--all', 'HEAD'];
  const named = await mirror.find(search);
  const but =
    named === null
      ? 'fetch branch mesh/ID from where the result was placed'
      : `commit ${named} names the task in its message, but it is another commit: not what was verified`;
  return `${path} does not have commit ${commit}, which the receipt is about; ${but}`;
}

async function otherCommit(
  mirror: Mirror,
  { commit, base, asked, revision }: { commit: string; base: string | null; asked: string; revision: string },
): Promise<string> {
  const named = revision === asked ? asked : `${revision} (${asked})`;
  if (base !== null && (await sameSoleChange(mirror, { commit, base, asked }))) {
    return `${named} has the same patch, but it is another commit: not what was verified, which is ${commit}`;
  }
  if (await isIn(mirror, commit, asked)) {
    return `${named} contains commit ${commit}, which the receipt is about, and more: that is not what was verified`;
  }
  return `the receipt is about commit ${commit}, not about ${named}`;
}

const isIn = async (mirror: Mirror, commit: string, tip: string): Promise<boolean> =>
  commit === tip || (await mirror.text(['rev-list', '--max-count=1', `${tip}..${commit}`])) === '';

/** The commits from one to the other; null where they are too many. */
async function between(mirror: Mirror, commit: string, tip: string): Promise<string[] | null> {
  const limit = `--max-count=${chainMax + 1}`;
  const listed = await mirror.text(['rev-list', limit, '--ancestry-path', `${commit}..${tip}`]);
  const ids = listed.split('\n').filter((id) => id !== '');
  return ids.length > chainMax ? null : ids;
}

async function refsWith(mirror: Mirror, commit: string): Promise<string[]> {
  const places = ['refs/heads/', 'refs/remotes/', 'refs/tags/'];
  const count = `--count=${refsNamedMax}`;
  const listed = await mirror
    .text(['for-each-ref', count, '--format=%(refname:short)', `--contains=${commit}`, ...places])
    .catch(() => '');
  return listed.split('\n').filter((name) => name !== '');
}

function told(match: RepositoryMatch, commit: string, base: string | null): string[] {
  const { path, inHead, refs, samePatch, tree } = match;
  const where = refs.length === 0 ? 'no branch or tag holds it' : `held by ${refs.join(', ')}`;
  return [
    `The repository ${path} has commit ${commit} (${where}).`,
    `Its tree is ${tree}; it lies on ${base ?? 'nothing, as a task without a repository does'}. Every object of it was hashed again, and is what its id says.`,
    inHead === null
      ? 'Whether the history of HEAD holds it could not be seen.'
      : inHead
        ? 'The history of HEAD holds it.'
        : 'The history of HEAD does not hold it.',
    ...samePatch.map(
      (other) => `Commit ${other} has the same patch, but it is another commit: not what was verified.`,
    ),
    commit.length === 40
      ? 'A commit id is a SHA-1 hash over message, parents and tree: it binds them as far as nobody makes two contents with one id. Git refuses the known ways to do so; the SHA-256 of the bundle does not rest on it.'
      : 'A commit id of this repository is a SHA-256 hash over message, parents and tree, and binds them.',
    'What came after this commit, and how a merge with it was settled, is not what was verified.',
  ];
}
