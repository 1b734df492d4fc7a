/**
 * What is needed of the X Window System protocol (X11R7, X.Org's "X Window System Protocol" and "MIT-SCREEN-SAVER") to ask a
 * server how long its user has touched nothing. Numbers are sent least significant byte first. Pure.
 */

const BYTES_OF_REPLY = 32;
const COOKIE = 'MIT-MAGIC-COOKIE-1';
const FAMILY_LOCAL = 256;
const FAMILY_WILD = 65_535;
const OP_QUERY_EXTENSION = 98;
const SCREEN_SAVER_QUERY_INFO = 1;

export const SCREEN_SAVER = 'MIT-SCREEN-SAVER';

/** The number of a display of this machine (`:0`, `:1.0`, `unix:0`); null: it is another's, or no display. */
export function localDisplay(display: string | undefined): string | null {
  return /^(?:unix\/?)?:(\d{1,5})(?:\.\d{1,3})?$/.exec(display ?? '')?.[1] ?? null;
}

/** The cookie for a display of this host in the bytes of an Xauthority file; null: there is none. */
export function cookieFor(file: Buffer, host: string, display: string): Buffer | null {
  let at = 0;
  const field = (): Buffer | null => {
    if (at + 2 > file.length) return null;
    const length = file.readUInt16BE(at);
    const end = at + 2 + length;
    if (end > file.length) return null;
    const bytes = file.subarray(at + 2, end);
    at = end;
    return bytes;
  };
  while (at + 2 <= file.length) {
    const family = file.readUInt16BE(at);
    at += 2;
    const [address, number, name, data] = [field(), field(), field(), field()];
    if (!address || !number || !name || !data) return null;
    const here = family === FAMILY_WILD || (family === FAMILY_LOCAL && address.toString() === host);
    const its = number.length === 0 || number.toString() === display;
    if (here && its && name.toString() === COOKIE) return data;
  }
  return null;
}

/** The first bytes of a connection. */
export function setupRequest(cookie: Buffer | null): Buffer {
  const name = Buffer.from(cookie === null ? '' : COOKIE);
  const data = cookie ?? Buffer.alloc(0);
  const head = Buffer.alloc(12);
  head.write('l', 'latin1');
  head.writeUInt16LE(11, 2);
  head.writeUInt16LE(name.length, 6);
  head.writeUInt16LE(data.length, 8);
  return Buffer.concat([head, padded(name), padded(data)]);
}

/** What a server answers to that: its first screen's root window, or why it refuses. Bytes that it took; null: more are needed. */
export function readSetup(
  bytes: Buffer,
): { bytes: number; root: number | null; refusal: string | null } | null {
  if (bytes.length < 8) return null;
  const end = 8 + 4 * bytes.readUInt16LE(6);
  if (bytes.length < end) return null;
  if (bytes[0] !== 1) {
    const text = bytes.subarray(8, bytes[0] === 0 ? 8 + bytes[1]! : end).toString('latin1');
    return { bytes: end, root: null, refusal: text.replace(/\0+$/, '').trim() };
  }
  const formats = end < 40 ? 0 : bytes[29]!;
  const root = end < 40 ? end : 40 + pad(bytes.readUInt16LE(24)) + 8 * formats;
  if (root + 4 > end) return { bytes: end, root: null, refusal: 'it has no screen' };
  return { bytes: end, root: bytes.readUInt32LE(root), refusal: null };
}

export function queryExtension(name: string): Buffer {
  const text = padded(Buffer.from(name));
  const head = Buffer.alloc(8);
  head[0] = OP_QUERY_EXTENSION;
  head.writeUInt16LE(2 + text.length / 4, 2);
  head.writeUInt16LE(name.length, 4);
  return Buffer.concat([head, text]);
}

/** `opcode`: of the screen saver's extension, as `extensionOf` has it. */
export function queryInfo(opcode: number, root: number): Buffer {
  const request = Buffer.alloc(8);
  request[0] = opcode;
  request[1] = SCREEN_SAVER_QUERY_INFO;
  request.writeUInt16LE(2, 2);
  request.writeUInt32LE(root, 4);
  return request;
}

/** The first whole reply or error of the bytes, `reply` null for what is neither, such as an event; null: more are needed. */
export function readReply(bytes: Buffer): { bytes: number; reply: Buffer | 'error' | null } | null {
  if (bytes.length < BYTES_OF_REPLY) return null;
  const more = bytes[0] === 1 ? 4 * bytes.readUInt32LE(4) : 0;
  const end = BYTES_OF_REPLY + more;
  if (bytes.length < end) return null;
  const kind = bytes[0] === 1 ? bytes.subarray(0, end) : bytes[0] === 0 ? 'error' : null;
  return { bytes: end, reply: kind };
}

/** The opcode of the extension that was asked for; null: the server has none. */
export const extensionOf = (reply: Buffer): number | null => (reply[8] === 1 ? reply[9]! : null);

/** Since the last input of its user, in ms. */
export const idleOf = (reply: Buffer): number => reply.readUInt32LE(16);

const pad = (length: number): number => Math.ceil(length / 4) * 4;
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes], pad(bytes.length));
