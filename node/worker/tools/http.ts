import { z } from 'zod';
import { asData, bounded, escaped } from './output.ts';
import { textOf } from './text.ts';
import { defineTool, ToolFault } from './tool.ts';

const bodyBytesMax = 256 * 1024;
const httpMs = 30_000;
const urlLengthMax = 2048;
/** Of what a server says about a page, as it is shown. */
const headLengthMax = 200;

export const http = defineTool({
  name: 'http',
  description:
    'Gets a page of the web by GET, from the hosts that the repository asks for and the owner of this machine allows.',
  needs: 'net',
  parameters: z.strictObject({ url: z.string().min(1).max(urlLengthMax) }),
  async run({ url }, { fetch, log }, signal) {
    if (typeof fetch === 'string') throw new ToolFault(fetch);
    const target = addressOf(url, (text) => log.masked(text));
    await log.say(`http: GET ${target.href}`);
    const limit = AbortSignal.timeout(httpMs);
    try {
      const page = await fetch(target, AbortSignal.any([signal, limit]));
      const { status, type } = page;
      const [bytes, whole] = await firstBytes(page.body);
      const text = textOf(bytes) ?? (whole ? null : textOf(bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1)));
      const shown = text ?? `(${bytes.length} bytes that are no text)`;
      const mark = whole ? '' : `\n[cut: the page has more than ${bodyBytesMax} bytes]`;
      const from = bounded(escaped(page.url.href), headLengthMax, null);
      const head = `status ${status}, ${bounded(escaped(type ?? 'no type'), headLengthMax, null)}`;
      const content = asData(`what ${from} answered`, `${escaped(log.masked(shown))}${mark}`);
      return { content: `${head}\n${content}`, failed: status >= 400 };
    } catch (error) {
      signal.throwIfAborted();
      if (limit.aborted) throw new ToolFault(`${url} did not answer within ${httpMs} ms.`);
      throw new ToolFault(`${url}: ${error instanceof Error ? error.message : String(error)}`);
    }
  },
});

/** An address that may be asked for: of the web, without credentials and without a secret, however it is written. */
function addressOf(text: string, masked: (text: string) => string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new ToolFault(`${text} is no address of the web. Expected one such as https://example.org/page.`);
  }
  if (url.username !== '' || url.password !== '')
    throw new ToolFault('an address has no name or password in it.');
  let plain = url.href;
  try {
    plain = decodeURIComponent(url.href);
  } catch {
    // Percent signs that encode nothing.
  }
  if ([text, url.href, plain].some((form) => masked(form) !== form)) {
    throw new ToolFault('the address has the value of a secret in it, so it was not asked for.');
  }
  return url;
}

async function firstBytes(body: AsyncIterable<Uint8Array>): Promise<[Buffer, boolean]> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    chunks.push(chunk.subarray(0, bodyBytesMax - length));
    length += chunk.length;
    if (length > bodyBytesMax) return [Buffer.concat(chunks), false];
  }
  return [Buffer.concat(chunks), true];
}
