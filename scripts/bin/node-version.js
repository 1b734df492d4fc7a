/** Plain JavaScript that old versions of Node run too, so that they can refuse in words. */
const NEEDED = [22, 18];

/**
 * Why this Node can't run the program, in the form the command line asks for; null: it can.
 *
 * @param {string} bin
 * @param {string} version
 * @param {readonly string[]} args
 * @returns {string | null}
 */
export function refusal(bin, version, args) {
  const [major, minor] = version.split('.').map(Number);
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return null;
  const needed = NEEDED.join('.');
  const message = `${bin} needs Node.js ${needed} or newer, and this is ${version}.`;
  const split = args.indexOf('--');
  const json = (split === -1 ? args : args.slice(0, split)).includes('--json');
  const hint = 'install a newer Node.js: https://nodejs.org';
  return json
    ? JSON.stringify({ error: { code: 'SF_NODE_VERSION', message, expected: needed, got: version, hint } })
    : message;
}
