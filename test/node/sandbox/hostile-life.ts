import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import { findProgram } from '../../../node/sandbox/host.ts';
import type { Sandbox } from '../../../node/sandbox/types.ts';
import { Folder, perl, processesWith, run, said, start, until, waitsForRelease, wish } from './support.ts';

const CHILD = new URL('./run-child.ts', import.meta.url).pathname;

/** Tasks that try to outlive their end, and nodes that end before their tasks. */
export function life(test: Test<object>, sandbox: Sandbox): void {
  const daemon = (marker: string): string => `
    my $m = '${marker}';
    for (1..3) {
      next if fork();
      POSIX::setsid(); exit if fork(); POSIX::setsid();
      $SIG{$_} = 'IGNORE' for grep { $_ ne 'KILL' && $_ ne 'STOP' } keys %SIG;
      close($_) for *STDIN, *STDOUT, *STDERR;
      sleep 1 while 1;
    }`;

  test('daemons that ignore every signal are gone when `ended` resolves, after an end of its own (promise 13)', async () => {
    for (let round = 0; round < 5; round += 1) {
      const marker = `daemon-${process.pid}-${round}`;
      const told = await run(sandbox, perl(`${daemon(marker)} select undef, undef, undef, 0.05; exit 7`));
      assert.is(told.exitCode, 7);
      assert.equal(processesWith(marker), []);
    }
  });

  test('… after a kill, an abort and a time-out', async () => {
    for (const way of ['kill', 'abort', 'timeout'] as const) {
      const marker = `daemon-${process.pid}-${way}`;
      const abort = new AbortController();
      const argv = perl(`${daemon(marker)} $| = 1; print "up\\n"; sleep 1 while 1`);
      const task = sandbox.start(
        wish(argv, { limits: { wallMs: way === 'timeout' ? 400 : 20_000 } }),
        abort.signal,
      );
      task.stderr.resume();
      await said(task.stdout, /up/);
      if (way === 'kill') task.kill();
      if (way === 'abort') abort.abort();
      assert.is((await task.ended).killedBy, way === 'timeout' ? 'timeout' : 'stopped');
      assert.equal(processesWith(marker), []);
    }
  });

  test('a task killed at any moment of its start never runs on', async () => {
    for (let step = 0; step < 24; step += 1) {
      const marker = `early-${process.pid}-${step}`;
      const task = start(sandbox, ['sh', '-c', 'sleep 30; true', marker]);
      task.stdout.resume();
      task.stderr.resume();
      await new Promise((resolve) => setTimeout(resolve, step % 12));
      task.kill();
      assert.is((await task.ended).killedBy, 'stopped');
      assert.equal(processesWith(marker), []);
    }
  });

  test('an abort before the start, and one that came earlier, end it as stopped', async () => {
    const task = sandbox.start(wish(['sleep', '30']), AbortSignal.abort());
    task.stdout.resume();
    task.stderr.resume();
    assert.is((await task.ended).killedBy, 'stopped');
  });

  test('a node killed with SIGKILL takes its tasks with it, at any moment (promise 13)', async () => {
    let held = 0;
    for (let step = 0; step < 16; step += 1) {
      const marker = `orphan-${process.pid}-${step}`;
      const script = perl(`${daemon(marker)} $| = 1; print "up\\n"; sleep 1 while 1`);
      const node = spawn(process.execPath, [CHILD, JSON.stringify(script)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const died = new Promise((resolve) => node.once('exit', resolve));
      // Most rounds end it while the sandbox is being made, the others when the task runs.
      await said(node.stdout, step < 13 ? /started/ : /up/);
      const at = performance.now() + (step < 13 ? step * 0.75 : 0);
      while (performance.now() < at) await new Promise((resolve) => setImmediate(resolve));
      node.kill('SIGKILL');
      await died;
      const alive = (): number[] => processesWith(marker).filter((pid) => !waitsForRelease(pid));
      await until(`no process of ${marker}`, () => alive().length === 0);
      // What was still being made when the node died must not come to life afterwards.
      await new Promise((resolve) => setTimeout(resolve, 40));
      // A task that lives goes on for ever; one process that is just ending is nothing.
      await until(`nothing of ${marker} comes to life`, () => alive().length === 0);
      const waiting = processesWith(marker);
      held += waiting.length;
      for (const pid of waiting) process.kill(pid, 'SIGKILL');
      await until(`nothing of ${marker}`, () => processesWith(marker).length === 0);
    }
    // Each round aims at another moment; one may hit those microseconds.
    assert.ok(held <= 1, `${held} of 16 nodes left a process that waits`);
  });

  test('descriptors the node was started with do not reach a task', async () => {
    using folder = new Folder();
    const canary = join(folder.path, 'canary');
    writeFileSync(canary, 'canary-fd');
    const fd = openSync(canary, 'r');
    const stdio: ('ignore' | 'pipe' | 'inherit' | number)[] = ['ignore', 'pipe', 'inherit'];
    for (let at = 3; at <= 210; at += 1)
      stdio.push(at === 3 || at === 12 || at === 40 || at === 210 ? fd : 'ignore');
    const script = 'for f in /proc/self/fd/*; do [ -f $f ] && cat $f; done; ls -l /proc/self/fd; echo done';
    const node = spawn(process.execPath, [CHILD, JSON.stringify(['sh', '-c', script])], { stdio });
    closeSync(fd);
    const out = await text(node.stdout as NodeJS.ReadableStream);
    assert.match(out, /done/);
    assert.not.match(out, /canary/);
  });

  test('a task finds its standard streams and at most covers of nothing', async () => {
    const told = await run(sandbox, [
      'sh',
      '-c',
      'for f in /proc/self/fd/*; do echo $(basename $f) $(readlink $f); done',
    ]);
    for (const line of told.out.trim().split('\n')) {
      const [fd, target] = line.split(' ');
      assert.ok(Number(fd) <= 2 || target === '/dev/null' || target === undefined, line);
    }
  });

  test('TIOCSTI: a task of a node on a terminal has no terminal to type into (promise 13)', async () => {
    const script = findProgram('script');
    if (script === null) return console.log('skipped: no `script` to make a terminal');
    const attack = perl(
      `my $n = 0; for my $p (qw(/dev/tty /dev/pts/0 /dev/pts/1 /dev/console)) { next unless open(my $t, '+<', $p); print "BAD open $p\\n" if $p eq '/dev/tty'; for my $c (split //, "touch /tmp/typed\\n") { my $b = $c; $n++ if ioctl($t, 0x5412, $b) } } for my $fd (0 .. 40) { open(my $t, '+<&=', $fd) or next; my $b = 'x'; $n++ if ioctl($t, 0x5412, $b) } print "typed $n\\n"`,
    );
    const command = [process.execPath, CHILD, JSON.stringify(attack)].map(
      (word) => `'${word.replaceAll("'", "'\\''")}'`,
    );
    const node = spawn(script, ['-qefc', command.join(' '), '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const out = await text(node.stdout);
    assert.match(out, /typed 0/);
    assert.not.match(out, /BAD/);
  });

  test('exit codes: the task’s own, 126 for what can’t be run, 127 for what isn’t there', async () => {
    using workspace = new Folder();
    writeFileSync(join(workspace.path, 'plain'), 'text', { mode: 0o644 });
    const code = async (...argv: string[]): Promise<number | null> =>
      (await run(sandbox, argv, { workspace: workspace.path })).exitCode;
    assert.is(await code('sh', '-c', 'exit 42'), 42);
    assert.is(await code('no-such-program'), 127);
    assert.is(await code('./plain'), 126);
    assert.is(await code('--version'), 127);
    assert.is(await code('sh', '-c', 'kill -TERM $$'), 143);
    assert.is(await code('sh', '-c', 'exit 153'), 153);
  });

  test('argv, environment, folder and stdin arrive as they were given', async () => {
    using workspace = new Folder();
    const odd = ['a b', '', '-x', '--', '$(id)', '"', "'", '\n', 'ü', '*'];
    const told = await run(
      sandbox,
      [
        'perl',
        '-e',
        'print join("|", @ARGV, $ENV{ODD}, <STDIN>); open(F, "<", "/dev/stdin"); print <F>',
        ...odd,
      ],
      {
        workspace: workspace.path,
        env: { ODD: 'x=y\nz "' },
        stdin: Buffer.from('line one\nline two\n'),
      },
    );
    assert.is(told.out, `${[...odd, 'x=y\nz "', 'line one\n', 'line two\n'].join('|')}line one\nline two\n`);
    assert.is((await run(sandbox, ['pwd'], { workspace: workspace.path })).out, '/workspace\n');
    assert.is((await run(sandbox, ['sh', '-c', 'umask'])).out, '0022\n');
    assert.is((await run(sandbox, ['cat'])).out, '');
  });

  test('a command or an environment too long for the kernel is the task’s fault, not the machine’s', async () => {
    const long = Array.from({ length: 300 }, () => 'x'.repeat(8192));
    const told = await run(sandbox, ['echo', ...long]);
    assert.is(told.exitCode, 126);
    assert.match(told.err, 'too long');
    const names = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, at) => [`N${at}`, 'v']));
    assert.is((await run(sandbox, ['true'], { env: names(2500) })).exitCode, 126);
    assert.match((await run(sandbox, ['env'], { env: names(2000) })).out, /^N1999=v$/m);
    const large = await run(
      sandbox,
      ['perl', '-e', 'print length $ENV{A}, " ", scalar @ARGV, "\\n"', ...long.slice(0, 100)],
      {
        env: { A: 'x'.repeat(100_000) },
      },
    );
    assert.is(large.out, '100000 100\n', large.err);
  });

  test('a task may open its streams by name', async () => {
    const told = await run(sandbox, [
      'sh',
      '-c',
      'echo one > /dev/stdout; echo two > /dev/stderr; echo three >> /proc/self/fd/1',
    ]);
    assert.is(told.out, 'one\nthree\n');
    assert.is(told.err, 'two\n');
  });

  test('a mount that does not exist is the machine’s fault, and says which', async () => {
    const task = start(sandbox, ['true'], {
      mounts: [{ from: '/no/such/folder', to: '/x', writable: false }],
    });
    try {
      await task.ended;
      assert.unreachable();
    } catch (thrown) {
      assert.is((thrown as { code?: string }).code, 'SF_NO_SANDBOX');
      assert.match((thrown as Error).message, '/no/such/folder');
    }
    task.stdout.destroy();
    task.stderr.destroy();
  });

  test('a mount with a zero byte is a defect of the caller: refused, nothing left waiting', async () => {
    const marker = `zero-${process.pid}`;
    const task = start(sandbox, ['sh', '-c', 'true', marker], {
      mounts: [{ from: '/tmp\0', to: '/x', writable: false }],
    });
    task.stdout.resume();
    task.stderr.resume();
    const refused: unknown = await task.ended.catch((thrown: unknown) => thrown);
    assert.is((refused as { code?: string }).code, 'SF_NO_SANDBOX');
    assert.equal(processesWith(marker), []);
  });

  test('eight tasks at once end each with its own output', async () => {
    const tasks = Array.from({ length: 8 }, (_, index) =>
      run(sandbox, ['sh', '-c', `echo ${index}; sleep 0.1; echo ${index}`]),
    );
    assert.equal(
      (await Promise.all(tasks)).map((told) => told.out),
      tasks.map((_, index) => `${index}\n${index}\n`),
    );
  });

  test('nothing stays open in the node: descriptors before and after fifty runs', async () => {
    const count = (): number => readFileSync('/proc/self/status', 'latin1').length && openDescriptors();
    await run(sandbox, ['true']);
    const before = count();
    for (let round = 0; round < 50; round += 1) await run(sandbox, ['true']);
    await until('descriptors as before', () => Math.abs(count() - before) <= 12);
  });
}

function openDescriptors(): number {
  let open = 0;
  for (let fd = 0; fd < 512; fd += 1) {
    try {
      readFileSync(`/proc/self/fdinfo/${fd}`);
      open += 1;
    } catch {
      // Closed.
    }
  }
  return open;
}
