import { ToolFault } from './tool.ts';

/** A file's text as UTF-8, its byte order mark kept; null: it is no text. */
export function textOf(bytes: Uint8Array): string | null {
  if (Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(0)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

export function requiredText(bytes: Uint8Array, path: string): string {
  const text = textOf(bytes);
  if (text !== null) return text;
  throw new ToolFault(`${path} is no text in UTF-8 (it has ${bytes.length} bytes). Use run to look at it.`);
}

/** Its lines without their ends; a last line end begins no further line. */
export function linesOf(text: string): string[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** True where every line ends in CRLF. */
export const hasCrlf = (text: string): boolean => text.includes('\r\n') && !/(^|[^\r])\n/.test(text);
