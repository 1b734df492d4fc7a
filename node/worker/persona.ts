/** What a tool does to the world, and so what it needs: read or write files, run commands, reach the network. */
export type Permission = 'read' | 'write' | 'run' | 'net';

export type Role = 'captain' | 'harper' | 'benjamin' | 'lucas' | 'evaluator';

/** Whom a model speaks as, and what this lets it do. */
export interface Persona {
  /** As the task gave it. */
  readonly name: string;
  /** Null: nobody known. */
  readonly role: Role | null;
  readonly may: ReadonlySet<Permission>;
}

/** The words of a title that tell a role. */
const WORDS: Readonly<Record<Role, readonly string[]>> = {
  captain: ['captain', 'orchestrator', 'planner'],
  harper: ['harper', 'researcher', 'reviewer'],
  benjamin: ['benjamin', 'builder'],
  lucas: ['lucas', 'synthesizer', 'synthesiser', 'reconciler'],
  evaluator: ['evaluator', 'critic', 'guardrail'],
};
const ROLES = Object.keys(WORDS) as Role[];

/** Looking something up at hosts that the owner allowed changes nothing, and is what a reviewer is for. */
const READER: ReadonlySet<Permission> = new Set(['read', 'net']);
const NOBODY: ReadonlySet<Permission> = new Set(['read']);
const WRITER: ReadonlySet<Permission> = new Set(['read', 'write', 'run', 'net']);

/**
 * The persona of a task. The title in its role file decides, and where there is none, or it tells no role, the name. Whoever
 * is not known reads the files and nothing else; so does a title that tells two roles, since the lesser right is the safe one.
 */
export function personaOf(name: string, roleFile: string | null): Persona {
  const told = roleFile === null ? [] : rolesIn(titleOf(roleFile) ?? '');
  const role =
    told.length > 0
      ? told.length === 1
        ? told[0]!
        : null
      : (ROLES.find((one) => one === name.toLowerCase()) ?? null);
  if (role === null) return { name, role, may: NOBODY };
  return { name, role, may: role === 'benjamin' || role === 'lucas' ? WRITER : READER };
}

/**
 * The title of a role file: `title:` of its front matter, else its first heading of the first level; null: it has none.
 * Words further down, which may quote anybody, are no title.
 */
export function titleOf(roleFile: string): string | null {
  const lines = roleFile.replace(/^\uFEFF/, '').split(/\r?\n/);
  if (lines[0]?.trimEnd() === '---') {
    const end = lines.findIndex((line, index) => index > 0 && line.trimEnd() === '---');
    const matter = end === -1 ? [] : lines.splice(0, end + 1);
    for (const line of matter) {
      const title = /^title:\s*(.+?)\s*$/i.exec(line)?.[1];
      if (title !== undefined) return title.replace(/^(["'])(.*)\1$/, '$2');
    }
  }
  const heading = lines.find((line) => /^#\s+\S/.test(line));
  return heading?.replace(/^#\s+/, '').trim() ?? null;
}

function rolesIn(title: string): Role[] {
  const words = new Set(title.toLowerCase().split(/[^\p{L}\p{N}]+/u));
  return ROLES.filter((role) => WORDS[role].some((word) => words.has(word)));
}
