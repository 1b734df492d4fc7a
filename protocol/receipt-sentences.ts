import { escapeLine } from './escape.ts';
import type { WorkDone } from './receipt.ts';
import type { Party, ReceiptFacts, ReceiptVerdict } from './receipt-verdict.ts';
import { formatSize } from './size.ts';
import { timestamp } from './statement.ts';
import type { Verification } from './verification.ts';

/** A sentence is for a person: what is longer than this is cut, and says so. */
const clippedMax = 400;

/** A verdict in sentences, one a line; the last is the line that scripts and people look for. */
export function sentencesOf(
  facts: ReceiptFacts | null,
  verdict: Pick<ReceiptVerdict, 'standing' | 'why'>,
): string[] {
  const { standing, why } = verdict;
  if (facts === null || standing === 'not-proved') return [escapeLine(`not proved: ${why ?? 'unknown'}`)];
  const last = standing === 'proved' ? `proved: ${summary(facts)}` : 'signature good, signer unknown';
  const stranger = [
    `The file says it is of the mesh with the id ${facts.mesh}. Whoever made the file chose that id: ask someone you trust for the mesh id and pass it with --mesh.`,
  ];
  return [
    ...(standing === 'proved' ? [] : stranger),
    ...execution(facts),
    ...outcome(facts),
    ...verification(facts),
    ...notShown(facts),
    last,
  ].map(escapeLine);
}

function execution({ receipt, executor, meshName, mesh }: ReceiptFacts): string[] {
  const { repository, env, secrets } = receipt.spec;
  const on = repository === null ? 'in an empty workspace' : `on commit ${repository.base}`;
  return [
    `Mesh ${quoted(meshName)} has the id ${mesh}.`,
    `${named(executor)} ran task ${receipt.task} (attempt ${receipt.attempt}, epoch ${receipt.epoch}) ${on}.`,
    ...(repository === null
      ? []
      : [
          `The repository is ${quoted(repository.name)} (first commit ${repository.id}), asked for as ${quoted(repository.ref)}.`,
        ]),
    receipt.spec.kind === 'command'
      ? `The command was: ${clipped(receipt.spec.argv.map(shellWord).join(' '))}`
      : `The goal was: ${quoted(receipt.spec.code.goal)}`,
    ...(receipt.work === null ? [] : [workOf(receipt.work)]),
    ...(Object.keys(env).length === 0
      ? []
      : [
          `It was given the environment: ${clipped(
            Object.entries(env)
              .map(([key, value]) => `${key}=${value}`)
              .join(' '),
          )}`,
        ]),
    ...(secrets.length === 0 ? [] : [`It was given the secrets named ${secrets.join(', ')}.`]),
    `It ran in the sandbox ${receipt.sandbox} (memory: ${receipt.limits.memory}, processes: ${receipt.limits.processes}, disk: ${receipt.limits.disk}), from ${timestamp(receipt.startedAt)} to ${timestamp(receipt.finishedAt)} by that machine’s clock.`,
  ];
}

function outcome({ receipt, digest }: ReceiptFacts): string[] {
  const code = receipt.exitCode === null ? 'without an exit code' : `with exit code ${receipt.exitCode}`;
  const { checks, spec } = receipt;
  return [
    `It ${receipt.outcome === 'succeeded' ? 'succeeded' : `failed (${receipt.reason})`}, ${code}.`,
    ...checks.map(
      (check, index) =>
        `Check ${index + 1} of ${spec.checks.length} on the executor, ${quoted(check.line)}: ${colour(check.exitCode)}.`,
    ),
    ...(spec.checks.length === 0 ? ['The task had no checks.'] : []),
    ...(receipt.commit === null
      ? ['It gave no commit.']
      : [`It gave commit ${receipt.commit} (branch mesh/${receipt.task}).`]),
    ...(receipt.bundle === null
      ? []
      : [
          `The bundle with that commit has ${formatSize(receipt.bundle.bytes)} and the SHA-256 ${receipt.bundle.sha256}.`,
        ]),
    ...(receipt.log === null
      ? ['It printed nothing.']
      : [`Its log has ${formatSize(receipt.log.bytes)} and the SHA-256 ${receipt.log.sha256}.`]),
    ...receipt.artifacts.map(
      (file) => `Artifact ${quoted(file.path)} has ${formatSize(file.bytes)} and the SHA-256 ${file.sha256}.`,
    ),
    ...changed('executor', receipt.checksChanged),
    ...flaky('executor', receipt.checksFlaky),
    `The receipt’s digest is ${digest}.`,
  ];
}

function verification({ verification: about, verifier, sameOwner, receipt }: ReceiptFacts): string[] {
  if (about === null || verifier === null)
    return ['Nobody else has verified it: it is the executor’s own word.'];
  const ran = about.commit === null ? 'again' : `again on commit ${about.commit}`;
  if (about.replica === true && about.passed && about.checks.length === 0)
    return [...replicaOf(about, verifier), ...owners(verifier, sameOwner)];
  return [
    ...replicaOf(about, verifier),
    `${named(verifier)} ran the checks ${ran} in attempt ${about.verifierAttempt} and found: ${about.passed ? 'passed' : 'failed'}.`,
    ...about.checks.map(
      (check, index) =>
        `Check ${index + 1} of ${receipt.spec.checks.length} on the verifier, ${quoted(check.line)}: ${colour(check.exitCode)}.`,
    ),
    ...(about.detail === null ? [] : [`The verifier adds: ${quoted(about.detail)}`]),
    ...changed('verifier', about.checksChanged),
    ...flaky('verifier', about.checksFlaky),
    ...owners(verifier, sameOwner),
  ];
}

/** The verifier ran the command, and not only the checks. */
const replicaOf = ({ replica, passed, verifierAttempt }: Verification, verifier: Party): string[] =>
  replica !== true
    ? []
    : [
        `${named(verifier)} ran the command itself in attempt ${verifierAttempt}${passed ? ', and it made the same' : ''}.`,
      ];

function owners(verifier: Party, sameOwner: boolean | null): string[] {
  return [
    sameOwner
      ? `Executor and verifier are different machines of the same owner, ${quoted(verifier.owner)}: this carries no weight in trust.`
      : 'Executor and verifier belong to different owners, as the mesh names them.',
  ];
}

/** What a signature cannot show, so that nobody reads more into it. */
function notShown({ verification: about, receipt }: ReceiptFacts): string[] {
  return [
    'What this does not prove:',
    '- that the command does what its name says: read the command, the checks and the patch;',
    about === null
      ? '- that the result is right: no other machine has looked at it;'
      : '- that the executor’s machine was honest beyond what the checks show, or that executor and verifier did not agree to lie;',
    '- when it was: the times are what the machines’ own clocks said;',
    ...(receipt.spec.checks.length === 0 ? ['- anything about quality: there was no check;'] : []),
    '- that the mesh accepted or merged it, or that its log is complete: that is in the log, not in this file;',
    '- that the members named are members now, or were when they signed: a revocation is in the log, not in this file, and does not undo what was logged before it.',
  ];
}

/** What happened, in half a sentence. */
export function summary({ receipt, verification: about, executor, verifier }: ReceiptFacts): string {
  const ran = receipt.outcome === 'succeeded' ? 'ran' : `ran and failed (${receipt.reason})`;
  const first = `${executor.name} ${ran} task ${receipt.task}`;
  if (about === null || verifier === null) return `${first}; nobody else has verified it`;
  return about.passed
    ? `${first}, and ${verifier.name} verified it`
    : `${first}, and ${verifier.name} found that it does not pass`;
}

const named = ({ name, id, owner }: Party): string => `${name} (${id}, owner ${quoted(owner)})`;
const quoted = (text: string): string => `“${clipped(text)}”`;
const colour = (exitCode: number | null): string =>
  exitCode === 0
    ? 'green (exit code 0)'
    : exitCode === null
      ? 'red (no exit code)'
      : `red (exit code ${exitCode})`;
export const clipped = (text: string): string =>
  text.length <= clippedMax
    ? text
    : `${text.slice(0, clippedMax)}… (${text.length - clippedMax} characters more)`;
const changed = (who: string, files: readonly string[]): string[] =>
  files.length === 0
    ? []
    : [
        `The result changes files that the checks rest on, says the ${who}: ${clipped(files.join(', '))}. So it stays a proposal.`,
      ];
const flaky = (who: string, checks: readonly number[] = []): string[] =>
  checks.map(
    (at) =>
      `Check ${at + 1} is flaky, says the ${who}: it was red and green on the same files. It proves nothing.`,
  );
const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** What a model did, in the executor's words. */
function workOf({ brain, model, turns, calls, heals, files, lowConfidence }: WorkDone): string {
  const healed = heals === 0 ? '' : `, shown ${heals} red ${heals === 1 ? 'check' : 'checks'} to mend`;
  const unsure = lowConfidence ? '; it said that it is not sure' : '';
  return `The model ${quoted(model)} (${brain}) worked on it: ${turns} answers, ${calls} calls, ${files} files changed${healed}${unsure}.`;
}
