import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { bundleObjectsMax } from '../../protocol/limits.ts';
import { GitFault } from './fault.ts';

/** What stands before the pack of a bundle (gitformat-bundle), and the pack's own head. */
export interface BundleHeader {
  version: 2 | 3;
  objectFormat: 'sha1' | 'sha256';
  prerequisites: string[];
  refs: { commit: string; name: string }[];
  /** Where the pack begins. */
  packOffset: number;
  /** Objects the pack says it holds. */
  objects: number;
}

/** What the header of a bundle must say, given what it was announced as. */
export interface BundleExpected {
  commit: string;
  /** Every prerequisite must be one of these. */
  prerequisites: readonly string[];
  /** The one ref's name; null: any, since no ref is ever made of it. */
  ref: string | null;
}

/** An honest header names one ref and at most 64 prerequisites with a line of comment each. */
export const bundleHeaderBytesMax = 128 * 1024;
/** Prerequisites of one bundle, as in the message that announces it. */
const prerequisitesMax = 64;
const PACK_HEAD_BYTES = 12;
/** Printable ASCII without what git forbids in a ref's name. */
const REF = /^(HEAD|refs\/[!-~]{1,250})$/;

/**
 * Strict parse of a bundle's first bytes; throws a `GitFault` of the input naming what is wrong. Versions 2 and 3,
 * exactly one ref, no filter, no unknown capability, at most `bundleObjectsMax` objects.
 */
export function parseBundleHeader(bytes: Buffer): BundleHeader {
  const lines = headerLines(bytes);
  const [signature, ...rest] = lines.text;
  const version = signature === '# v2 git bundle' ? 2 : signature === '# v3 git bundle' ? 3 : null;
  if (version === null) throw refused('it does not begin with "# v2 git bundle" or "# v3 git bundle"');
  const header: BundleHeader = {
    version,
    objectFormat: 'sha1',
    prerequisites: [],
    refs: [],
    packOffset: lines.end,
    objects: 0,
  };
  for (const line of rest) readLine(header, line);
  const digits = header.objectFormat === 'sha1' ? 40 : 64;
  const names = [...header.prerequisites, ...header.refs.map((ref) => ref.commit)];
  if (names.some((name) => name.length !== digits)) throw refused(`an object name is not ${digits} digits`);
  if (header.refs.length !== 1)
    throw refused(`it carries ${header.refs.length} refs where exactly one is expected`);
  if (header.prerequisites.length > prerequisitesMax) {
    throw refused(
      `it has ${header.prerequisites.length} prerequisites, at most ${prerequisitesMax} are taken`,
    );
  }
  header.objects = packObjects(bytes.subarray(lines.end));
  return header;
}

/** Reads and checks the head of a bundle file without following links or waiting on a FIFO. */
export async function checkBundle(path: string, expected: BundleExpected): Promise<BundleHeader> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const buffer = Buffer.alloc(bundleHeaderBytesMax + PACK_HEAD_BYTES);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    const header = parseBundleHeader(buffer.subarray(0, bytesRead));
    const [ref] = header.refs;
    if (ref?.commit !== expected.commit) {
      throw refused(`it carries ${ref?.commit} where ${expected.commit} was announced`);
    }
    if (expected.ref !== null && ref.name !== expected.ref) {
      throw refused(`its ref is ${ref.name} where ${expected.ref} was expected`);
    }
    const unknown = header.prerequisites.find((commit) => !expected.prerequisites.includes(commit));
    if (unknown !== undefined) throw refused(`it rests on ${unknown}, which was not announced`);
    return header;
  } finally {
    await file.close();
  }
}

function headerLines(bytes: Buffer): { text: string[]; end: number } {
  const text: string[] = [];
  let at = 0;
  for (;;) {
    const end = bytes.indexOf(0x0a, at);
    if (end === -1 || end > bundleHeaderBytesMax) {
      throw refused(`its header does not end within ${bundleHeaderBytesMax} bytes`);
    }
    const line = bytes.subarray(at, end);
    at = end + 1;
    if (line.length === 0) return { text, end: at };
    if (line.includes(0)) throw refused('its header has a zero byte');
    text.push(line.toString('latin1'));
  }
}

function readLine(header: BundleHeader, line: string): void {
  if (line.startsWith('@')) {
    const format = /^@object-format=(sha1|sha256)$/.exec(line)?.[1];
    if (header.version === 2 || format === undefined) {
      throw refused(`it needs ${JSON.stringify(line.slice(0, 64))}, which is not supported`);
    }
    header.objectFormat = format === 'sha1' ? 'sha1' : 'sha256';
    return;
  }
  const prerequisite = /^-([0-9a-f]{40}|[0-9a-f]{64})( .*)?$/.exec(line)?.[1];
  if (prerequisite !== undefined && header.refs.length === 0) {
    header.prerequisites.push(prerequisite);
    return;
  }
  const [, commit, name] = /^([0-9a-f]{40}|[0-9a-f]{64}) (.+)$/.exec(line) ?? [];
  if (commit === undefined || name === undefined || !REF.test(name)) {
    throw refused(`its header has the line ${JSON.stringify(line.slice(0, 64))}`);
  }
  header.refs.push({ commit, name });
}

function packObjects(pack: Buffer): number {
  if (pack.length < PACK_HEAD_BYTES || pack.toString('latin1', 0, 4) !== 'PACK') {
    throw refused('no pack follows its header');
  }
  const version = pack.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refused(`its pack is of version ${version}`);
  const objects = pack.readUInt32BE(8);
  if (objects > bundleObjectsMax) {
    throw refused(`its pack holds ${objects} objects, at most ${bundleObjectsMax} are taken`);
  }
  return objects;
}

const refused = (why: string): GitFault => new GitFault('input', `the bundle is refused: ${why}`);
