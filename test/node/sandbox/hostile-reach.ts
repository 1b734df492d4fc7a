import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Sandbox } from '../../../node/sandbox/types.ts';
import { Folder, PERL, perl, processesWith, run, said, start } from './support.ts';

const CANARY = `canary-${process.pid}-7f3a91`;

/** Tasks that try to read, write or speak to what is not theirs. */
export function reach(test: Test<object>, sandbox: Sandbox): void {
  test('a task writes its workspace and nothing else: system, root, devices, read-only mounts (promise 13)', async () => {
    using workspace = new Folder();
    using shown = new Folder();
    writeFileSync(join(shown.path, 'file'), 'as it was');
    const script = `
      echo mine > /workspace/mine || echo BAD workspace
      for path in /usr/x /usr/bin/x /bin/x /lib/x /etc/x /etc/passwd /x /dev/x /home/x /run/x /var/x /sys/x /boot/x \
        /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /shown/file /shown/new; do
        if (echo x > $path) 2>/dev/null; then echo "BAD $path"; fi
      done
      rm -f /shown/file 2>/dev/null && echo BAD rm
      mv /shown/file /workspace/ 2>/dev/null && echo BAD mv
      ln /shown/file /workspace/hard 2>/dev/null && echo BAD link
      chmod 777 /shown 2>/dev/null && echo BAD chmod
      mkdir /workspace/sub && touch /workspace/sub/f && echo done`;
    const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
    const told = await run(sandbox, ['sh', '-c', script], {
      workspace: workspace.path,
      mounts: [{ from: shown.path, to: '/shown', writable: false }],
    });
    assert.is(told.out, 'done\n', told.err);
    assert.is(readFileSync(join(workspace.path, 'mine'), 'utf8'), 'mine\n');
    assert.equal(readdirSync(shown.path), ['file']);
    assert.is(readFileSync(join(shown.path, 'file'), 'utf8'), 'as it was');
    assert.is(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'), pattern);
  });

  test('a link in the workspace that leads out leads to the sandbox’s own files', async () => {
    using workspace = new Folder();
    using outside = new Folder();
    writeFileSync(join(outside.path, 'file'), CANARY);
    symlinkSync(join(outside.path, 'file'), join(workspace.path, 'link'));
    symlinkSync(outside.path, join(workspace.path, 'folder'));
    const told = await run(
      sandbox,
      ['sh', '-c', 'cat link folder/file; echo x > link; echo x > folder/new; ls /workspace/../*'],
      { workspace: workspace.path },
    );
    assert.not.match(told.out, CANARY);
    assert.is(readFileSync(join(outside.path, 'file'), 'utf8'), CANARY);
    assert.equal(readdirSync(outside.path), ['file']);
  });

  test('a canary beside the workspace is neither readable, nor listed, nor reached through /proc', async () => {
    using home = new Folder('home');
    const workspace = join(home.path, 'workspace');
    mkdirSync(workspace);
    writeFileSync(join(home.path, CANARY), CANARY);
    const script = `
      cat ${join(home.path, CANARY)} /workspace/../${CANARY} 2>/dev/null
      ls -a ${home.path} /root /home /home/* /workspace/.. 2>/dev/null | grep -v '^[./]'
      for p in /proc/[0-9]*; do ls $p/root${home.path} $p/cwd/.. 2>/dev/null; cat $p/root${join(home.path, CANARY)} 2>/dev/null; done
      find / -xdev -name '*canary*' 2>/dev/null
      echo done`;
    const told = await run(sandbox, ['sh', '-c', script], { workspace });
    assert.not.match(told.out, CANARY);
    assert.match(told.out, /done\n$/);
  });

  test('the environment of the node does not reach a task, nor stand anywhere in its /proc', async () => {
    process.env.SF_TEST_CANARY = CANARY;
    const script = 'env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" "\\n"';
    const told = await run(sandbox, ['sh', '-c', script], { env: { GIVEN: 'yes' } });
    delete process.env.SF_TEST_CANARY;
    assert.not.match(told.out, CANARY);
    assert.match(told.out, 'GIVEN=yes');
    const names = told.out.match(/^[A-Z_]+(?==)/gm) ?? [];
    assert.equal([...new Set(names)].sort(), ['GIVEN', 'HOME', 'PATH', 'PWD']);
  });

  test('what a task is given by environment stands in no command line or environment outside its namespace', async () => {
    const task = start(sandbox, ['sh', '-c', 'echo up; exec sleep 5'], { env: { SECRET: CANARY } });
    task.stderr.resume();
    await said(task.stdout, /up/);
    assert.equal(processesWith(CANARY), []);
    const environments = processesWith('bwrap').flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/environ`, 'latin1')];
      } catch {
        return []; // Another user's.
      }
    });
    assert.ok(environments.length > 0);
    assert.not.ok(environments.some((text) => text.includes(CANARY)));
    task.kill();
    await task.ended;
  });

  test('LD_PRELOAD and LD_DEBUG of a submitter do nothing outside the sandbox', async () => {
    using outside = new Folder();
    const told = await run(sandbox, ['true'], {
      env: {
        LD_DEBUG: 'all',
        LD_DEBUG_OUTPUT: join(outside.path, 'loader'),
        LD_PRELOAD: '/workspace/evil.so',
      },
    });
    assert.is(told.exitCode, 0);
    assert.equal(readdirSync(outside.path), []);
  });

  test('no network: the host’s ports, its addresses, other hosts and names are out of reach (promise 13)', async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await listen(server, { port: 0, host: '0.0.0.0' });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const own = Object.values(networkInterfaces())
      .flat()
      .flatMap((face) => (face?.family === 'IPv4' ? [face.address] : []));
    const script = `
      use Socket;
      for my $ip (qw(${[...own, '1.1.1.1', '224.0.0.251', '169.254.169.254'].join(' ')})) {
        for my $type (SOCK_STREAM, SOCK_DGRAM) {
          socket(my $s, PF_INET, $type, 0) or next;
          next unless connect($s, sockaddr_in(${port}, inet_aton($ip))) && $ip ne '127.0.0.1';
          print "BAD $ip\\n" if defined send($s, 'x', 0);
        }
      }
      socket(my $u, PF_INET, SOCK_DGRAM, 0);
      print "BAD resolver\\n" if defined send($u, 'x', 0, sockaddr_in(53, inet_aton('8.8.8.8')));
      print "BAD name\\n" if inet_aton('example.com');
      print "BAD raw\\n" if socket(my $r, PF_INET, SOCK_RAW, 1);
      open(my $f, '<', '/proc/net/route'); my @routes = <$f>; print "BAD routes\\n" if @routes > 1;
      open($f, '<', '/proc/net/dev'); my @faces = grep { /:/ && !/^\\s*lo:/ } <$f>; print "BAD @faces" if @faces;
      print "done\\n";`;
    const told = await run(sandbox, perl(script));
    await close(server);
    assert.is(told.out, 'done\n', told.err);
    assert.is(connections, 0);
  });

  test('abstract and named Unix sockets of the host can’t be connected to', async () => {
    using folder = new Folder();
    const named = join(folder.path, 'socket');
    let connections = 0;
    const servers = [createServer(), createServer()];
    for (const server of servers) server.on('connection', () => (connections += 1));
    await listen(servers[0] as Server, { path: `\0sf-test-${process.pid}` });
    await listen(servers[1] as Server, { path: named });
    const script = `
      use Socket;
      socket(my $s, PF_UNIX, SOCK_STREAM, 0); print "BAD abstract\\n" if connect($s, pack('Sa*', AF_UNIX, "\\0sf-test-${process.pid}"));
      socket($s, PF_UNIX, SOCK_STREAM, 0); print "BAD named\\n" if connect($s, sockaddr_un('${named}'));
      print "done\\n";`;
    const told = await run(sandbox, perl(script));
    for (const server of servers) await close(server);
    assert.is(told.out, 'done\n', told.err);
    assert.is(connections, 0);
  });

  test('one task sees nothing of another that runs at the same time: processes, files, memory (promise 13)', async () => {
    using first = new Folder();
    using second = new Folder();
    const shared = `open(my $f, '>', "$_/${CANARY}") for qw(/tmp /home/sandbox /dev/shm); shmget(4711, 4096, 0666|01000)`;
    const victim = start(sandbox, perl(`${shared}; $|=1; print "up\\n"; sleep 20; print "BAD\\n"`), {
      workspace: first.path,
      env: { VICTIM: CANARY },
    });
    victim.stderr.resume();
    await said(victim.stdout, /up/);
    const attack = `
      my $sum = kill(9, -1) ? 1 : 0;
      for my $pid (2 .. 40000) { next if $pid == $$ || $pid == getppid(); print "BAD kill $pid\\n" if kill(0, $pid) && $pid > 20; }
      opendir(my $d, '/proc'); my @pids = grep { /^\\d+$/ } readdir $d;
      for my $pid (@pids) { for my $file (qw(environ cmdline maps)) { open(my $f, '<', "/proc/$pid/$file") or next; local $/; my $t = <$f>; print "BAD $file\\n" if $t =~ /VIC[T]IM/; } }
      print "BAD many @pids\\n" if @pids > 6;
      print "BAD file $_\\n" for grep { -e "$_/${CANARY}" } qw(/tmp /home/sandbox /dev/shm /workspace);
      print "BAD memory\\n" if defined shmget(4711, 4096, 0666);
      print "BAD workspace\\n" if -e '${first.path}';
      print "done\\n";`;
    const told = await run(sandbox, perl(attack), { workspace: second.path });
    assert.is(told.out, 'done\n', told.err);
    victim.kill();
    assert.is((await victim.ended).killedBy, 'stopped');
  });

  test('one task finds nothing that the one before it left in folders, shared memory or message queues', async () => {
    using workspace = new Folder();
    const leave = `
      for my $d (qw(/tmp /home/sandbox /dev/shm /var/tmp)) { open(my $f, '>', "$d/${CANARY}") or print "no $d\\n"; }
      my $id = shmget(4711, 4096, 0666|01000); shmwrite($id, '${CANARY}', 0, 12); msgget(4711, 0666|01000); semget(4711, 1, 0666|01000);
      print "left\\n";`;
    assert.is((await run(sandbox, perl(leave), { workspace: workspace.path })).out, 'left\n');
    const look = `
      for my $d (qw(/tmp /home/sandbox /dev/shm /var/tmp)) { opendir(my $h, $d); my @n = grep { !/^\\.\\.?$/ } readdir $h; print "BAD $d @n\\n" if @n; }
      print "BAD shm\\n" if defined shmget(4711, 4096, 0666); print "BAD msg\\n" if defined msgget(4711, 0666); print "BAD sem\\n" if defined semget(4711, 1, 0666);
      print "clean\\n";`;
    assert.is((await run(sandbox, perl(look), { workspace: workspace.path })).out, 'clean\n');
  });

  test('the folders of the sandbox in memory have a size, and the device folder and the root none to write to', async () => {
    const script = `
      for d in /tmp /home/sandbox /dev/shm; do dd if=/dev/zero of=$d/fill bs=1M count=100 2>/dev/null && echo "BAD $d"; rm -f $d/fill; done
      (dd if=/dev/zero of=/fill bs=1M count=1 || dd if=/dev/zero of=/dev/fill bs=1M count=1) 2>/dev/null && echo BAD
      echo done`;
    const told = await run(sandbox, ['sh', '-c', script], { limits: { memoryBytes: 160 * 1024 * 1024 } });
    assert.is(told.out, 'done\n', told.err);
  });

  test('the sandbox names nobody of this machine', async () => {
    const told = await run(sandbox, [
      'sh',
      '-c',
      'cat /etc/passwd /etc/group /etc/hosts; hostname; id -un; ls /etc',
    ]);
    const people = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':')[0] ?? '')
      .filter((name) => !['', 'nobody'].includes(name));
    for (const name of people) assert.not.match(told.out, new RegExp(`^${name}:`, 'm'));
    assert.match(told.out, /^sandbox$/m);
    assert.not.match(told.out, /shadow|machine-id|resolv|hostname/);
    assert.is(existsSync('/etc/passwd') && statSync('/etc/passwd').size > 0, true);
  });

  if (!PERL) console.log('skipped: no /usr/bin/perl for the tasks of this file');
}

const listen = (server: Server, where: { port: number; host: string } | { path: string }): Promise<void> =>
  new Promise((resolve, reject) => server.once('error', reject).listen(where, resolve));
const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
