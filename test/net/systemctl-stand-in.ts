/**
 * A stand-in for `systemctl`, because no systemd runs where the tests do. It records how it was called, keeps what is
 * enabled, and runs a unit's ExecStart by hand: with the environment, the capabilities and the view of the file system that
 * systemd would give it by the directives of the unit. System-call filters and the device list are not carried out.
 *
 * `systemctl-stand-in.ts STATE UNITS WORD…`: STATE is a folder of its own, UNITS the folder where the unit lies.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { lives, markOf, type ProcessMark } from '../../node/process-mark.ts';

const [state = '', units = '', ...words] = process.argv.slice(2);
const user = words[0] === '--user';
const [verb = '', ...rest] = user ? words.slice(1) : words;
const now = rest.includes('--now');
const unit = rest.find((word) => word.endsWith('.service')) ?? '';
const at = (name: string): string => join(state, name);

appendFileSync(at('calls'), `${words.join(' ')}\n`);
const refused = existsSync(at('refuse')) ? readFileSync(at('refuse'), 'utf8').trim() : null;
if (verb === refused) {
  console.error(`Failed to ${verb} unit: Access denied`);
  process.exit(1);
}
const acts: Record<string, () => void> = {
  '--version': () => console.log('systemd 252 (a stand-in)'),
  'daemon-reload': () => {},
  enable: () => {
    writeFileSync(at('enabled'), '');
    if (now) start();
  },
  disable: () => {
    rmSync(at('enabled'), { force: true });
    if (now) stop();
  },
  start,
  stop,
  restart: () => {
    stop();
    start();
  },
  show: () => {
    // What was started and is gone, though nobody stopped it, has failed.
    const active = main() !== null ? 'active' : existsSync(at('main')) ? 'failed' : 'inactive';
    const enabled = existsSync(at('enabled')) ? 'enabled' : 'disabled';
    console.log(`MainPID=${main()?.pid ?? 0}\nActiveState=${active}\nSubState=-\nUnitFileState=${enabled}`);
  },
};
const act = acts[verb];
if (act === undefined) throw new Error(`no such verb here: ${words.join(' ')}`);
act();

function main(): ProcessMark | null {
  if (!existsSync(at('main'))) return null;
  const mark = JSON.parse(readFileSync(at('main'), 'utf8')) as ProcessMark;
  return lives(mark) ? mark : null;
}

function stop(): void {
  const mark = main();
  rmSync(at('main'), { force: true });
  if (mark === null) return;
  process.kill(mark.pid, 'SIGTERM');
  while (lives(mark)) spawnSync('sleep', ['0.02']);
}

function start(): void {
  if (main() !== null) return;
  const text = readFileSync(join(units, unit), 'utf8');
  const value = (name: string): string | null => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? null;
  const split = (line: string): string[] =>
    [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) =>
      (quoted ?? plain ?? '').replaceAll('%%', '%'),
    );
  const exec = split((value('ExecStart') ?? '').replace(/^:/, ''));
  const caps = (value('CapabilityBoundingSet') ?? '').toLowerCase().split(' ').filter(Boolean);
  const rights =
    caps.length === 0 ? [] : [`--bounding-set=-all,${caps.map((cap) => cap.replace('cap_', '+')).join(',')}`];
  const tmp = value('PrivateTmp') === 'yes';
  const writable = split(value('ReadWritePaths') ?? '')
    .map((path) => path.replace(/^-/, ''))
    .concat(tmp ? ['/tmp', '/var/tmp'] : [])
    .sort();
  const steps = [`umask ${value('UMask') ?? '0022'}`];
  if (value('PrivateDevices') === 'yes') {
    mkdirSync(at('dev'), { recursive: true });
    steps.push(
      `dev='${at('dev')}'`,
      'mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs "$dev"',
      'for node in null zero full random urandom tty; do touch "$dev/$node"; mount --bind "/dev/$node" "$dev/$node"; done',
      'mkdir "$dev/pts" "$dev/shm"; mount --bind /dev/pts "$dev/pts"; mount -t tmpfs tmpfs "$dev/shm"',
      'mount --move "$dev" /dev',
    );
  }
  if (tmp) steps.push('for own in /tmp /var/tmp; do mount -t tmpfs tmpfs $own; done');
  for (const [directive, folders] of [
    ['ProtectHome', '/home /root /run/user'],
    ['ProtectKernelModules', '/usr/lib/modules'],
  ] as const) {
    if (value(directive) !== 'yes') continue;
    steps.push(
      `for hidden in ${folders}; do if [ -d $hidden ]; then mount -t tmpfs -o ro,mode=000 tmpfs $hidden; fi; done`,
    );
  }
  if (value('ProtectSystem') === 'strict') {
    steps.push(
      `for point in $(awk '{print $5}' /proc/self/mountinfo); do case "$point" in /proc*|/sys*|/dev*) ;; *) mount -n -o remount,bind,ro "$point" 2>/dev/null || true ;; esac; done`,
      'for path in "$@"; do [ "$path" = -- ] && break; if [ -e "$path" ]; then mount -n --bind "$path" "$path"; mount -n -o remount,bind,rw "$path"; fi; done',
    );
  }
  const nnp = value('NoNewPrivileges') === 'yes' ? ['--no-new-privs'] : [];
  const script = ['set -e', ...steps, 'while [ "$1" != -- ]; do shift; done; shift', 'exec "$@"'].join('\n');
  const outside = user ? [] : ['unshare', '--mount', '--propagation', 'slave'];
  const [file = '', ...args] = [
    ...outside,
    ...[
      'sh',
      '-c',
      script,
      'sh',
      ...writable,
      '--',
      'setpriv',
      ...rights,
      '--inh-caps=-all',
      ...nnp,
      ...exec,
    ],
  ];
  const login = user ? { HOME: process.env.HOME, USER: 'ann', LOGNAME: 'ann', SHELL: '/bin/sh' } : {};
  const journal = openSync(at('journal'), 'a');
  const child = spawn(file, args, {
    cwd: user ? process.env.HOME : '/',
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      INVOCATION_ID: '0123456789abcdef0123456789abcdef',
      JOURNAL_STREAM: '8:1',
      ...login,
    },
    detached: true,
    stdio: ['ignore', journal, journal],
  });
  child.unref();
  writeFileSync(at('main'), JSON.stringify(markOf(child.pid ?? 0)));
}
