/**
 * Whether what goes to this stream is coloured: on a terminal that can, unless `NO_COLOR` is set. `FORCE_COLOR` decides
 * before all else: 0 and false are no, anything else yes.
 */
export function coloursOn(stream: { isTTY?: boolean }, env: Record<string, string | undefined>): boolean {
  const forced = env.FORCE_COLOR ?? '';
  if (forced !== '') return forced !== '0' && forced !== 'false';
  return stream.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
}
