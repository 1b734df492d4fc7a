/**
 * The whole of a stream, for what is small by its nature: a document, a roster, a receipt. Past `bytesMax` the stream is
 * closed and what `tooLarge` makes is thrown.
 */
export async function collectBytes(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
  tooLarge: () => Error,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
