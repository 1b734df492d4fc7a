import { isAlias, isMap, isSeq, Lexer, LineCounter, type Node, parseDocument } from 'yaml';
import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { InsideFolder } from '../attempt/open-inside.ts';
import { manifestBytesMax, manifestName } from './manifest-name.ts';
import { manifestSchema } from './manifest-schema.ts';

/** Words and marks of YAML in one: reading takes time by the square of the keys in one place. */
const tokensMax = 8192;
/** Values that aliases may stand for, by the count of the YAML library. */
const aliasesMax = 64;
/** Characters shown of what was found. */
const gotCharactersMax = 120;

/** `.superfleet.yaml`: what a repository says of itself. What it does not say is null. */
export interface Manifest {
  /** Lines that fetch and make what the repository depends on, each run by `sh -c` in its root. */
  prepare: string[] | null;
  checks: string[] | null;
  /** Globs of files restored before checks run. */
  checkFiles: string[] | null;
  /** In the units of a task's limits. */
  limits: {
    memoryBytes: number | null;
    workspaceBytes: number | null;
    processes: number | null;
    timeoutMs: number | null;
    checkTimeoutMs: number | null;
  };
  needs: {
    /** Name → versions, as a task asks for them. */
    tools: Record<string, string> | null;
    /** Hosts that `prepare` needs: a wish; the owner of the machine decides. */
    network: string[] | null;
  };
  /** Paths in the repository that hold what `prepare` makes. */
  cache: string[] | null;
}

/** The manifest in the root of a checkout; null where there is none. Throws what `parseManifest` throws. */
export async function readManifest(folder: string): Promise<Manifest | null> {
  const root = await InsideFolder.root(folder);
  try {
    const file = await root.file(manifestName);
    if (file === null) return null;
    try {
      const bytes = Buffer.alloc(manifestBytesMax + 1);
      let length = 0;
      for (let more = 1; more > 0 && length < bytes.length; length += more)
        more = (await file.read(bytes, length, bytes.length - length)).bytesRead;
      return parseManifest(bytes.subarray(0, length));
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof SuperfleetError) throw cause;
    throw refused(`cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  } finally {
    await root.close();
  }
}

/** Reads a manifest. Throws `SF_USAGE`, which names the field, its line and what was expected; never anything else. */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > manifestBytesMax) {
    throw refused('is too large', {
      expected: `at most ${manifestBytesMax} bytes`,
      got: bytes.length > manifestBytesMax + 1 ? `${bytes.length} bytes` : 'more',
    });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refused('is not UTF-8', { expected: 'text in UTF-8', cause });
  }
  try {
    return fromText(text);
  } catch (cause) {
    if (cause instanceof SuperfleetError) throw cause;
    throw refused('is not a manifest', { got: cause instanceof Error ? cause.message : null, cause });
  }
}

function fromText(text: string): Manifest {
  let tokens = 0;
  for (const _ of new Lexer().lex(text)) {
    tokens += 1;
    if (tokens > tokensMax)
      throw refused('has too many parts', { expected: `at most ${tokensMax} words of YAML` });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    logLevel: 'error',
    schema: 'core',
  });
  const fault = document.errors[0];
  if (fault !== undefined) {
    const got = fault.message.slice(0, gotCharactersMax);
    throw refused('is not YAML', { line: lines.linePos(fault.pos[0]).line, expected: 'YAML 1.2', got });
  }
  const value: unknown = document.toJS({ maxAliasCount: aliasesMax });
  const parsed = manifestSchema.safeParse(value ?? {});
  if (parsed.success) return manifestOf(parsed.data);
  const issue = parsed.error.issues[0]!;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const path = unknown === undefined ? issue.path : [...issue.path, unknown];
  const name = path.map(String).join('.');
  const at = offsetOf(document.contents, path);
  const found = valueAt(value, path);
  throw refused(
    name === ''
      ? 'is not a manifest'
      : unknown === undefined
        ? `has a wrong \`${name}\``
        : `has no field \`${name}\``,
    {
      line: at === null ? null : lines.linePos(at).line,
      expected: unknown === undefined ? expectedAt(issue.path) : `one of ${fieldsAt(issue.path).join(', ')}`,
      got: JSON.stringify(found)?.slice(0, gotCharactersMax) ?? null,
    },
  );
}

function manifestOf(said: z.output<typeof manifestSchema>): Manifest {
  const { limits = {}, needs = {} } = said;
  return {
    prepare: said.prepare ?? null,
    checks: said.checks ?? null,
    checkFiles: said.checkFiles ?? null,
    limits: {
      memoryBytes: limits.memory ?? null,
      workspaceBytes: limits.workspace ?? null,
      processes: limits.processes ?? null,
      timeoutMs: limits.timeout ?? null,
      checkTimeoutMs: limits.checkTimeout ?? null,
    },
    needs: { tools: needs.tools ?? null, network: needs.network ?? null },
    cache: said.cache ?? null,
  };
}

/** The schema at a path, as deep as objects go. */
function schemaAt(path: readonly PropertyKey[]): z.ZodType {
  let at: z.ZodType = manifestSchema;
  for (const name of path) {
    if (!(at instanceof z.ZodObject)) break;
    const inner: unknown = at.shape[String(name)];
    at = (inner instanceof z.ZodOptional ? inner.unwrap() : inner) as z.ZodType;
  }
  return at;
}

function fieldsAt(path: readonly PropertyKey[]): string[] {
  const at = schemaAt(path);
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

const expectedAt = (path: readonly PropertyKey[]): string =>
  schemaAt(path).description ?? `fields: ${fieldsAt([]).join(', ')}`;

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, name) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, name)
        ? (at as Record<PropertyKey, unknown>)[name]
        : undefined,
    value,
  );
}

/** Where in the text a field stands; the nearest that holds it where it comes by an alias. */
function offsetOf(root: Node | null, path: readonly PropertyKey[]): number | null {
  let at: unknown = root;
  let offset = root?.range?.[0] ?? null;
  for (const name of path) {
    if (isAlias(at) || !(isMap(at) || isSeq(at))) break;
    const pair = isMap(at) ? at.items.find(({ key }) => String(key) === String(name)) : undefined;
    const next: unknown = isMap(at) ? pair?.value : at.items[Number(name)];
    const named = (pair?.key ?? next) as Node | undefined;
    offset = named?.range?.[0] ?? offset;
    at = next;
  }
  return offset;
}

function refused(
  what: string,
  detail: { line?: number | null; expected?: string; got?: string | null; cause?: unknown },
): SuperfleetError {
  const { line = null, ...rest } = detail;
  const where = line === null ? manifestName : `${manifestName}, line ${line},`;
  return new SuperfleetError('SF_USAGE', `${where} ${what}`, {
    ...rest,
    hint: `correct ${manifestName} in the root of the repository`,
  });
}
