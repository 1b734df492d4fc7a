/**
 * The one text of a plain JSON value, as RFC 8785 has it: no white space, keys in the order of their UTF-16 code units,
 * numbers and characters as `JSON.stringify` writes them. What is undefined is left out.
 */
export function canonicalJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = membersOf(value).map(([key, of]) => `${JSON.stringify(key)}:${canonicalJson(of)}`);
  return `{${members.join(',')}}`;
}

/** The same text in pieces, so that it never stands in memory whole: `depth` levels down each part is a piece of its own. */
export function* canonicalPieces(value: unknown, depth: number): Generator<string> {
  if (depth === 0 || typeof value !== 'object' || value === null) {
    yield canonicalJson(value);
    return;
  }
  const isArray = Array.isArray(value);
  let before = isArray ? '[' : '{';
  for (const [key, of] of isArray ? value.entries() : membersOf(value)) {
    yield isArray ? before : `${before}${JSON.stringify(key)}:`;
    yield* canonicalPieces(of, depth - 1);
    before = ',';
  }
  yield before === ',' ? (isArray ? ']' : '}') : isArray ? '[]' : '{}';
}

const membersOf = (value: object): [string, unknown][] =>
  Object.entries(value)
    .filter(([, of]) => of !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1));
