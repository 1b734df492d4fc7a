import { readFileSync } from 'node:fs';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import { ALLOWED_FAMILIES, ARCHITECTURES } from '../../../node/sandbox/seccomp.ts';
import type { Sandbox } from '../../../node/sandbox/types.ts';
import { perl, run } from './support.ts';

const table = ARCHITECTURES[process.arch];
/** Not in a table of the filter: calls that the namespaces themselves must refuse. */
const UNSHARE = process.arch === 'x64' ? 272 : 97;
const CLONE = process.arch === 'x64' ? 56 : 220;

/** Tasks that try the kernel's wide doors. */
export function kernel(test: Test<object>, sandbox: Sandbox): void {
  test('every denied call answers EPERM or ENOSYS: keyring, bpf, perf, io_uring, userfaultfd, mounts … (promise 13)', async () => {
    assert.ok(table);
    const calls = { ...table.denied, ...table.missing };
    const asked = Object.entries(calls).map(([name, number]) => `'${name}' => ${number}`);
    const script = `
      my %calls = (${asked.join(', ')});
      for my $name (sort keys %calls) {
        $! = 0; my $got = syscall($calls{$name}, 0, 0, 0, 0, 0, 0);
        print "$name $got ", $!+0, "\\n";
      }`;
    const told = await run(sandbox, perl(script));
    const lines = told.out.trim().split('\n');
    assert.is(lines.length, Object.keys(calls).length, told.err);
    for (const line of lines) {
      const [name = '', got, errno] = line.split(' ');
      assert.is(`${got} ${errno}`, name in table.missing ? '-1 38' : '-1 1', line);
    }
  });

  test('AF_VSOCK, AF_PACKET, AF_ALG and every family but four can’t be opened; netlink only for routes', async () => {
    const script = `
      for my $family (0 .. 46) { for my $type (1, 2, 3, 5) { next unless socket(my $s, $family, $type, 0); print "$family\\n"; last; } }
      for my $protocol (1 .. 22) { print "netlink $protocol\\n" if socket(my $s, 16, 3, $protocol); }`;
    const told = await run(sandbox, perl(script));
    const opened = told.out.trim().split('\n').map(Number);
    assert.is(told.err, '');
    assert.ok(
      opened.every((family) => ALLOWED_FAMILIES.includes(family)),
      told.out,
    );
    assert.ok(opened.includes(1) && opened.includes(2), told.out);
  });

  test('numbers of the x32 table reach no call', async () => {
    if (process.arch !== 'x64') return console.log('skipped: x32 numbers exist on x86-64 only');
    const script = 'print syscall(0x40000000 + 39), " ", syscall(0x40000000 + 250, 0, 0), "\\n"';
    assert.is((await run(sandbox, perl(script))).out, '-1 -1\n');
  });

  test('no nested namespace, by clone or by unshare (promise 13)', async () => {
    const script = `
      for my $flag (0x10000000, 0x10020000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x02000000) {
        print "BAD unshare $flag\\n" if syscall(${UNSHARE}, $flag) == 0;
        my $pid = syscall(${CLONE}, $flag | 17, 0, 0, 0, 0);
        if ($pid == 0) { exit 0 } print "BAD clone $flag\\n" if $pid > 0;
      }
      print "done\\n";`;
    const told = await run(sandbox, perl(script));
    assert.is(told.out, 'done\n', told.err);
  });

  test('no capability, no new privileges, and nobody’s uid but the user’s (promise 14)', async () => {
    const status = (await run(sandbox, ['cat', '/proc/self/status'])).out;
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      assert.match(status, new RegExp(`^${name}:\\s+0+$`, 'm'));
    }
    assert.match(status, /^NoNewPrivs:\s+1$/m);
    assert.match(status, /^Seccomp:\s+2$/m);
    assert.match(status, new RegExp(`^Uid:(\\s+${process.getuid?.()}){4}$`, 'm'));
  });

  test('programs that are set-uid root on this machine stay the user’s (promise 14)', async () => {
    const script = `
      for f in $(find /usr/bin /usr/sbin -perm -4000 -type f); do
        case $f in */su) echo | $f -c id 2>&1;; */mount) $f -t tmpfs x /tmp 2>&1;; */chfn|*/chsh|*/passwd|*/newgrp|*/gpasswd) echo | $f 2>&1;; esac
      done | grep -ciE 'uid=0|changed'
      mount | grep -vE 'nosuid' | grep -v ^$
      cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id && /tmp/id -u`;
    const told = await run(sandbox, ['sh', '-c', script]);
    assert.is(told.out, `0\n${process.getuid?.()}\n`, told.err);
  });

  test('what a task writes to /proc/sys and /sys changes nothing on the host', async () => {
    const files = ['kernel/core_pattern', 'kernel/hostname', 'vm/overcommit_memory'];
    const before = files.map((file) => readFileSync(`/proc/sys/${file}`, 'utf8'));
    const script = `for f in ${files.join(' ')}; do (echo x > /proc/sys/$f) 2>/dev/null && echo "BAD $f"; done; ls /sys 2>/dev/null; hostname evil 2>/dev/null && echo BAD hostname; echo done`;
    assert.is((await run(sandbox, ['sh', '-c', script])).out, 'done\n');
    assert.equal(
      files.map((file) => readFileSync(`/proc/sys/${file}`, 'utf8')),
      before,
    );
  });

  test('devices are the six harmless ones', async () => {
    const told = await run(sandbox, [
      'sh',
      '-c',
      'cd /dev; for f in *; do if [ ! -L $f ] && { [ -b $f ] || [ -c $f ]; }; then echo $f; fi; done; mknod /tmp/sda b 8 0 2>/dev/null && echo BAD',
    ]);
    assert.equal(told.out.trim().split('\n'), ['full', 'null', 'random', 'tty', 'urandom', 'zero']);
  });
}
