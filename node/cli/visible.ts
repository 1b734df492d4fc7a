/** Text from outside made harmless for a terminal: every control and direction character is shown, none is obeyed. */

const escapeOf = (character: string): string => {
  const point = character.codePointAt(0) ?? 0;
  return point <= 0xff ? `\\x${point.toString(16).padStart(2, '0')}` : `\\u{${point.toString(16)}}`;
};

/** Controls but newline and tab, and characters that reorder or hide text. */
const unsafe =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

export const visible = (text: string): string => text.replace(unsafe, escapeOf);

/** The same for what must stay on one line. */
export const visibleLine = (text: string): string =>
  visible(text).replace(/[\n\t]/g, (c) => (c === '\n' ? '\\n' : ' '));
