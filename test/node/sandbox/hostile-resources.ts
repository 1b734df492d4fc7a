import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Sandbox } from '../../../node/sandbox/types.ts';
import { Folder, perl, processesWith, run, said, start } from './support.ts';

const MiB = 1024 * 1024;

/** Tasks that try to take more than they were given. */
export function resources(test: Test<object>, sandbox: Sandbox): void {
  const kinds = sandbox.limitKinds;
  const by = (kind: string): string => `[${kind}]`;

  test(`a fork bomb is held at its limit and ended ${by(kinds.processes)} (promise 13)`, async () => {
    const marker = `bomb-${process.pid}`;
    const bomb = perl(`my $m = '${marker}'; $SIG{$_} = 'IGNORE' for qw(TERM INT HUP); while (1) { fork() }`);
    const told = await run(sandbox, bomb, { limits: { processes: 40 } });
    assert.is(told.killedBy, 'processes');
    assert.equal(processesWith(marker), []);
  });

  test(`never more processes than the limit, counted from inside ${by(kinds.processes)}`, async () => {
    const script =
      'my $n = 0; while ($n < 200) { my $p = fork(); last unless defined $p; if (!$p) { sleep 5; exit } $n++ } print "$n\\n"; kill 9, -1';
    const told = await run(sandbox, perl(script), { limits: { processes: 20 } });
    assert.ok(Number(told.out) > 10 && Number(told.out) <= 20, told.out + told.err);
  });

  test(`memory counts over the whole tree: four children under the limit each are ended together ${by(kinds.memory)} (promise 13)`, async () => {
    const marker = `hog-${process.pid}`;
    const script = `my $m = '${marker}'; for (1..4) { if (!fork()) { my $x = 'x' x (90 * 1024 * 1024); sleep 20; exit } } sleep 20; print "BAD\\n"`;
    const told = await run(sandbox, perl(script), { limits: { memoryBytes: 256 * MiB } });
    assert.is(told.killedBy, 'memory');
    assert.is(told.out, '');
    assert.ok(told.wallMs < 10_000);
    assert.equal(processesWith(marker), []);
  });

  test(`files in the sandbox’s memory folders count as memory ${by(kinds.memory)}`, async () => {
    const script =
      'head -c 60M /dev/zero > /tmp/a; head -c 60M /dev/zero > /home/sandbox/b; head -c 60M /dev/zero > /dev/shm/c; sleep 20; echo BAD';
    const told = await run(sandbox, ['sh', '-c', script], { limits: { memoryBytes: 128 * MiB } });
    assert.is(told.killedBy, 'memory', told.err);
  });

  test(`a task within its memory is left alone, shared pages counted once ${by(kinds.memory)}`, async () => {
    const script = `my $x = 'x' x (100 * 1024 * 1024); for (1..4) { if (!fork()) { sleep 1; exit } } 1 while wait() > 0; print "fine\\n"`;
    const told = await run(sandbox, perl(script), { limits: { memoryBytes: 400 * MiB } });
    assert.is(told.out, 'fine\n', JSON.stringify(told));
  });

  for (const [what, script] of [
    ['one big file', 'exec dd if=/dev/zero of=big bs=1M'],
    [
      'several files',
      'i=0; while true; do i=$((i+1)); dd if=/dev/zero of=f$i bs=1M count=20 2>/dev/null; done',
    ],
    ['many small files', 'i=0; while true; do i=$((i+1)); mkdir -p d$i; head -c 1M /dev/zero > d$i/f; done'],
    [
      'files without a name',
      'exec perl -e \'my @f; for my $i (1..200) { open(my $f, "+>", "f$i"); unlink "f$i"; syswrite($f, "x" x 1048576) for 1..4; push @f, $f } sleep 20\'',
    ],
    [
      'files in a folder without rights',
      'mkdir shut; for i in $(seq 1 40); do head -c 4M /dev/zero > shut/$i; done; chmod 0 shut; sleep 20',
    ],
  ] as const) {
    test(`a flood of the disk is ended: ${what} (promise 13)`, async () => {
      using workspace = new Folder();
      const told = await run(sandbox, ['sh', '-c', script], {
        workspace: workspace.path,
        limits: { diskBytes: 64 * MiB },
      });
      assert.is(told.killedBy, 'disk', JSON.stringify({ ...told, out: told.out.slice(-200) }));
      await run(sandbox, ['sh', '-c', 'chmod -R u+rwX .'], { workspace: workspace.path });
    });
  }

  test('holes, links to large files and what was there before within the limit are no flood', async () => {
    using workspace = new Folder();
    writeFileSync(join(workspace.path, 'before'), Buffer.alloc(8 * MiB, 1));
    const script = `truncate -s 60M hole; for i in $(seq 1 50); do ln before link$i; ln -s /usr up$i; done; sleep 0.7; echo fine`;
    const told = await run(sandbox, ['sh', '-c', script], {
      workspace: workspace.path,
      limits: { diskBytes: 64 * MiB },
    });
    assert.is(told.out, 'fine\n', JSON.stringify(told));
  });

  test('output nobody reads stops the writer: memory stays bounded, and it can still be ended (promise 18)', async () => {
    const task = start(sandbox, ['sh', '-c', 'echo up >&2; exec yes'], { limits: { wallMs: 20_000 } });
    await said(task.stderr, /up/);
    const before = process.memoryUsage().rss;
    await new Promise((resolve) => setTimeout(resolve, 400));
    assert.ok(process.memoryUsage().rss - before < 64 * MiB);
    assert.ok(task.stdout.readableLength <= 256 * 1024, String(task.stdout.readableLength));
    task.kill();
    const end = await task.ended;
    assert.is(end.killedBy, 'stopped');
    task.stdout.destroy();
  });

  test('output that is read flows, every byte of it in order', async () => {
    const told = await run(sandbox, ['sh', '-c', 'seq 1 200000; seq 1 1000 >&2']);
    assert.is(told.out.length, 1_288_895);
    assert.match(told.out, /\n200000\n$/);
    assert.match(told.err, /\n1000\n$/);
  });

  test('the wall time ends a task that does nothing', async () => {
    const told = await run(sandbox, ['sleep', '20'], { limits: { wallMs: 150 } });
    assert.is(told.killedBy, 'timeout');
    assert.is(told.signal, 'SIGKILL');
    assert.is(told.exitCode, null);
    assert.ok(told.wallMs >= 140 && told.wallMs < 3_000, String(told.wallMs));
  });

  test('WebAssembly, which reserves gigabytes, runs under a small memory limit', async () => {
    const node = '/usr/bin/node';
    const script =
      'new WebAssembly.Memory({ initial: 1, maximum: 65536 }); console.log((await WebAssembly.instantiate(Buffer.from("AGFzbQEAAAA=", "base64"))).instance instanceof WebAssembly.Instance)';
    const told = await run(
      sandbox,
      ['sh', '-c', `[ -x ${node} ] || exec echo true; exec ${node} --input-type=module -e '${script}'`],
      {
        limits: { memoryBytes: 256 * MiB },
      },
    );
    assert.is(told.out, 'true\n', told.err);
  });

  test('no core file is written', async () => {
    using workspace = new Folder();
    const told = await run(sandbox, ['sh', '-c', 'ulimit -c; kill -SEGV $$'], { workspace: workspace.path });
    assert.is(told.out, '0\n');
    assert.is(told.exitCode, 139);
    assert.is(readFileSync('/proc/self/comm', 'utf8').length > 0, true);
  });
}
