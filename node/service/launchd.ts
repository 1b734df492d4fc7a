import { SuperfleetError } from '../../protocol/errors.ts';
import { type Bin, markLine, type ServiceSpec, serviceName, startCommand } from './types.ts';

/** launchd waits so long between two starts; it knows no back-off. */
const THROTTLE_S = 30;
/** As long as `stop` waits. */
const STOP_S = 60;

/** `org.superfleet.node`, `org.superfleet.hub`. */
export const launchdLabel = (bin: Bin): string => `org.${serviceName(bin).replace('-', '.')}`;

/**
 * The property list of a LaunchDaemon (`system`) or LaunchAgent (`user`), pure. Untested on a Mac: only its form is.
 * launchd can't be told which exit codes no restart mends, so those are tried again too.
 */
export function launchdPlist(spec: ServiceSpec): string {
  const { bin, dir, scope } = spec;
  const text = dict([
    ['Label', string(launchdLabel(bin))],
    [
      'ProgramArguments',
      `<array>\n${startCommand(spec)
        .map((word) => `    ${string(word)}`)
        .join('\n')}\n  </array>`,
    ],
    ['RunAtLoad', '<true/>'],
    ['KeepAlive', '<dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>'],
    ['ThrottleInterval', `<integer>${THROTTLE_S}</integer>`],
    ['ExitTimeOut', `<integer>${STOP_S}</integer>`],
    ['ProcessType', string('Background')],
    ['Umask', `<integer>${0o077}</integer>`],
    ['StandardErrorPath', string(`${dir}.log`)],
  ]);
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by ${bin} service install, which writes it anew. Untested: nobody has run this ${scope} service on a Mac yet. -->
<!-- ${markLine({ bin, dir }).replaceAll('--', '-\\u002d')} -->
<plist version="1.0">
${text}
</plist>
`;
}

const dict = (entries: [string, string][]): string =>
  `<dict>\n${entries.map(([key, value]) => `  <key>${key}</key>\n  ${value}`).join('\n')}\n</dict>`;

function string(text: string): string {
  const bad = /[^\P{Cc}\t\n]|[\ufffe\uffff]/u.exec(text)?.[0];
  if (bad !== undefined) {
    throw new SuperfleetError('SF_USAGE', `a property list cannot carry ${JSON.stringify(text)}`, {
      expected: 'text without control characters',
      got: JSON.stringify(bad),
    });
  }
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<string>${escaped}</string>`;
}
