/**
 * Who a failure of git is laid to. `input`: the bundles that lead to the base; `result`: the bundle under
 * verification; `work`: what the task left in its workspace; `machine`: this machine or its cache.
 */
export type GitFaultOf = 'input' | 'result' | 'work' | 'machine';

/** Git, or a bound around it, said no. The message is for a person and has no control characters. */
export class GitFault extends Error {
  readonly of: GitFaultOf;

  constructor(of: GitFaultOf, message: string) {
    super(printable(message));
    this.name = 'GitFault';
    this.of = of;
  }
}

/** Text from foreign bytes on one line: controls and format characters as escapes, so that no terminal obeys them. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (character === '\n') return '\\n';
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}
