/**
 * Globs over paths of `/`-separated names: `*` and `?` within a name, `[a-z]` and `[!a-z]` for one character,
 * `{a,b}` for either, `**` for any number of folders. Names that begin with a dot match like others. Time is
 * bounded by pattern × path, whatever the pattern.
 */
export interface Glob {
  readonly pattern: string;
  /** True where the pattern has no special character: it names one path. */
  readonly literal: boolean;
  matches(path: string): boolean;
  /** True where something under this folder could match. */
  mayMatchUnder(folder: string): boolean;
}

/** Alternatives one pattern may spread into. */
const alternativesMax = 256;

/** Compiles a pattern. A pattern with more than `alternativesMax` alternatives is taken literally from there on. */
export function glob(pattern: string): Glob {
  const alternatives = spread(pattern).map((one) =>
    one.split('/').filter((name) => name !== '' && name !== '.'),
  );
  return {
    pattern,
    literal: !/[*?[{]/.test(pattern),
    matches: (path) => alternatives.some((names) => matchNames(names, path.split('/'))),
    mayMatchUnder: (folder) => alternatives.some((names) => reachesUnder(names, folder.split('/'))),
  };
}

/** `a{b,c}d` → `abd`, `acd`; nested and repeated. */
function spread(pattern: string): string[] {
  let done: string[] = [];
  let open = [pattern];
  while (open.length > 0) {
    const next: string[] = [];
    for (const one of open) {
      const parts = firstBraces(one);
      if (parts === null || done.length + next.length + parts.choices.length > alternativesMax)
        done.push(one);
      else next.push(...parts.choices.map((choice) => parts.before + choice + parts.after));
    }
    open = next;
  }
  if (done.length > alternativesMax) done = done.slice(0, alternativesMax);
  return done;
}

function firstBraces(text: string): { before: string; choices: string[]; after: string } | null {
  const begin = text.indexOf('{');
  if (begin === -1) return null;
  const choices: string[] = [];
  let depth = 0;
  let from = begin + 1;
  for (let at = begin; at < text.length; at += 1) {
    const character = text[at];
    if (character === '{') depth += 1;
    if (character === ',' && depth === 1) {
      choices.push(text.slice(from, at));
      from = at + 1;
    }
    if (character === '}') {
      depth -= 1;
      if (depth > 0) continue;
      choices.push(text.slice(from, at));
      return choices.length > 1 ? { before: text.slice(0, begin), choices, after: text.slice(at + 1) } : null;
    }
  }
  return null;
}

/** Folders by the greedy way: a `**` takes as little as it can, and only the last one is ever taken back. */
function matchNames(pattern: readonly string[], names: readonly string[]): boolean {
  return greedy(pattern.length, names.length, {
    many: (p) => pattern[p] === '**',
    one: (p, n) => matchName(pattern[p] ?? '', names[n] ?? ''),
  });
}

/** Can `names`, followed by at least one more name, match? */
function reachesUnder(pattern: readonly string[], names: readonly string[]): boolean {
  for (const [index, name] of names.entries()) {
    const part = pattern[index];
    if (part === '**') return true;
    if (part === undefined || !matchName(part, name)) return false;
  }
  return pattern.length > names.length;
}

function matchName(pattern: string, name: string): boolean {
  if (pattern === '*' || pattern === name) return true;
  const tokens = tokensOf(pattern);
  const characters = [...name];
  return greedy(tokens.length, characters.length, {
    many: (p) => tokens[p] === '*',
    one: (p, n) => {
      const token = tokens[p];
      const character = characters[n] ?? '';
      if (token === undefined) return false;
      return typeof token === 'string' ? token === '?' || token === `=${character}` : token.test(character);
    },
  });
}

/** Wildcard matching in time pattern × text and no recursion. */
function greedy(
  patternLength: number,
  textLength: number,
  is: { many(p: number): boolean; one(p: number, n: number): boolean },
): boolean {
  let [p, n, star, mark] = [0, 0, -1, 0];
  while (n < textLength) {
    if (p < patternLength && is.many(p)) {
      star = p;
      mark = n;
      p += 1;
    } else if (p < patternLength && is.one(p, n)) {
      p += 1;
      n += 1;
    } else if (star !== -1) {
      mark += 1;
      n = mark;
      p = star + 1;
    } else return false;
  }
  while (p < patternLength && is.many(p)) p += 1;
  return p === patternLength;
}

/** `*`, `?`, `=c` for the character c itself, or a set. */
function tokensOf(pattern: string): (string | { test(character: string): boolean })[] {
  const tokens: (string | { test(character: string): boolean })[] = [];
  const characters = [...pattern];
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? '';
    const close = character === '[' ? characters.indexOf(']', at + 2) : -1;
    if (close !== -1) {
      tokens.push(setOf(characters.slice(at + 1, close)));
      at = close;
    } else tokens.push(character === '*' || character === '?' ? character : `=${character}`);
  }
  return tokens;
}

function setOf(body: readonly string[]): { test(character: string): boolean } {
  const negated = body[0] === '!' || body[0] === '^';
  const members = negated ? body.slice(1) : body;
  const within = (character: string): boolean => {
    for (let at = 0; at < members.length; at += 1) {
      const from = members[at] ?? '';
      const to = members[at + 1] === '-' ? members[at + 2] : undefined;
      if (to === undefined ? character === from : character >= from && character <= to) return true;
      if (to !== undefined) at += 2;
    }
    return false;
  };
  return { test: (character) => within(character) !== negated };
}
