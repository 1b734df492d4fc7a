import { escapeLine } from '../../protocol/escape.ts';
import { clipped, summary } from '../../protocol/receipt-sentences.ts';
import { timestamp } from '../../protocol/statement.ts';
import type { Entry } from '../lines/entry.ts';
import type { ProofFacts, ProofVerdict } from './proof-verdict.ts';

/** A verdict in sentences, one a line; the last is the line that scripts and people look for. */
export function proofSentences(
  facts: ProofFacts | null,
  { standing, why }: Pick<ProofVerdict, 'standing' | 'why'>,
): string[] {
  if (facts === null || standing === 'not-proved') return [escapeLine(`not proved: ${why ?? 'unknown'}`)];
  const stranger = [
    `The file says it is of the mesh with the id ${facts.mesh}. Whoever made the file chose that id: ask someone you trust for the mesh id and pass it with --mesh.`,
  ];
  return [
    ...(standing === 'proved' ? [] : stranger),
    `Mesh “${facts.meshName}” has the id ${facts.mesh}.`,
    `Its log of ${facts.size} entries has the root ${facts.root}, signed by the log key of epoch ${facts.epoch}.`,
    ...facts.witnesses.map(
      ({ id, time }) =>
        `${id} cosigned that at ${moment(time * 1000)} by its clock. Whether you trust it is for you to know.`,
    ),
    ...(facts.entry === null ? [] : entrySentences(facts.entry, facts)),
    ...notShown(facts),
    standing === 'proved' ? `proved: ${what(facts)}` : 'signature good, signer unknown',
  ].map(escapeLine);
}

function entrySentences(entry: Entry, { receipt }: ProofFacts): string[] {
  const named = (entry.body as { verification?: string | null } | null)?.verification ?? null;
  return [
    `Entry ${entry.index} is ${entry.type}, logged in epoch ${entry.epoch} at ${moment(entry.time)} by the founder’s clock.`,
    `It says: ${clipped(JSON.stringify(entry.body))}`,
    ...(receipt === null
      ? []
      : [
          `It names the receipt ${receipt.digest}, which is in the file: ${summary(receipt)}.`,
          receipt.verification === null
            ? 'There is no verification in the file.'
            : named === null
              ? 'It names no verification: the one in the file is good, but this entry does not show that it was logged.'
              : `It names the verification ${named}, which is in the file.`,
          'What the receipt itself says and does not prove is told by `receipt verify` of its own file.',
        ]),
  ];
}

function notShown({ since, entry, witnesses }: ProofFacts): string[] {
  return [
    'What this does not prove:',
    witnesses.length === 0
      ? '- that the founder showed everybody the same log: no witness has cosigned this checkpoint;'
      : '- that the founder showed everybody the same log: as far as you trust a witness named, it saw this one;',
    '- that the mesh was not handed over since: a file speaks for the handovers it carries;',
    ...(entry === null ? [] : ['- that what the entry says is true: it is what the founder logged;']),
    since === null
      ? '- what else is in the log, or that nothing later revoked it.'
      : '- what the entries say that were added.',
  ];
}

function what({ entry, receipt, since, size, meshName }: ProofFacts): string {
  if (since !== null) {
    return `the log of mesh ${meshName} at ${size} entries begins with the ${since.size} of the checkpoint you kept`;
  }
  const place = `entry ${entry?.index} of mesh ${meshName}`;
  if (receipt === null) return `${place} is ${entry?.type}`;
  return `${summary(receipt)}; ${place} (${entry?.type}) names this receipt`;
}

/** Unix ms for a person; what lies beyond all dates is shown as it is. */
function moment(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms` : timestamp(ms);
}
