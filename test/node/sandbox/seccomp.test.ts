import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  ALLOWED_FAMILIES,
  ARCHITECTURES,
  SECCOMP_ALLOW,
  SECCOMP_EAFNOSUPPORT,
  SECCOMP_ENOSYS,
  SECCOMP_EPERM,
  SECCOMP_KILL,
  seccompProgram,
} from '../../../node/sandbox/seccomp.ts';

interface Call {
  arch: number;
  number: number;
  args?: number[];
}

/** The part of classic BPF that a filter may use, as linux/filter.h and the kernel's checker have it. */
function answer(program: Uint8Array, { arch, number, args = [] }: Call): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number >>> 0, 0);
  data.writeUInt32LE(arch >>> 0, 4);
  for (const [index, value] of args.entries()) data.writeUInt32LE(value >>> 0, 16 + index * 8);
  const code = Buffer.from(program);
  let accumulator = 0;
  for (let at = 0, steps = 0; steps < 4096; steps += 1) {
    assert.ok(at * 8 + 8 <= code.length, 'runs off its end');
    const [op, jt, jf, k] = [
      code.readUInt16LE(at * 8),
      code.readUInt8(at * 8 + 2),
      code.readUInt8(at * 8 + 3),
      code.readUInt32LE(at * 8 + 4),
    ];
    at += 1;
    if (op === 0x20) accumulator = data.readUInt32LE(k);
    else if (op === 0x15) at += accumulator === k ? jt : jf;
    else if (op === 0x35) at += accumulator >= k ? jt : jf;
    else if (op === 0x06) return k;
    else throw new Error(`instruction ${op} is not one that filters use`);
  }
  throw new Error('does not end');
}

const filterOf = (arch: string): Uint8Array => {
  const program = seccompProgram(arch);
  assert.ok(program !== null);
  return program;
};

for (const [name, table] of Object.entries(ARCHITECTURES)) {
  const program = filterOf(name);
  const ask = (number: number, args: number[] = []): number =>
    answer(program, { arch: table.audit, number, args });

  test(`${name}: denied calls get EPERM, missing ones ENOSYS, all others pass`, () => {
    const denied = new Set(Object.values(table.denied));
    const missing = new Set(Object.values(table.missing));
    for (let number = 0; number < 1024; number += 1) {
      if (number === table.socket || number === table.socketpair) continue;
      const expected = denied.has(number)
        ? SECCOMP_EPERM
        : missing.has(number)
          ? SECCOMP_ENOSYS
          : SECCOMP_ALLOW;
      assert.is(ask(number), expected, `call ${number}`);
    }
  });

  test(`${name}: a socket has one of four families, and netlink only its routing protocol`, () => {
    for (const call of [table.socket, table.socketpair]) {
      for (let family = 0; family < 64; family += 1) {
        const expected = ALLOWED_FAMILIES.includes(family) ? SECCOMP_ALLOW : SECCOMP_EAFNOSUPPORT;
        assert.is(ask(call, [family, 1, 0]), expected, `family ${family}`);
      }
      for (let protocol = 1; protocol < 32; protocol += 1) {
        assert.is(ask(call, [16, 3, protocol]), SECCOMP_EAFNOSUPPORT, `netlink ${protocol}`);
        assert.is(ask(call, [2, 3, protocol]), SECCOMP_ALLOW, `inet ${protocol}`);
      }
    }
  });

  test(`${name}: calls of any other architecture end the process`, () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.nat(1024), (arch, number) => {
        fc.pre(arch !== table.audit);
        return answer(program, { arch, number }) === SECCOMP_KILL;
      }),
    );
  });

  test(`${name}: no number and no arguments make it run off its end`, () => {
    const word = fc.integer({ min: 0, max: 0xffffffff });
    fc.assert(
      fc.property(word, fc.array(word, { maxLength: 6 }), (number, args) => {
        const given = answer(program, { arch: table.audit, number, args });
        return [SECCOMP_ALLOW, SECCOMP_EPERM, SECCOMP_ENOSYS, SECCOMP_EAFNOSUPPORT].includes(given);
      }),
    );
  });
}

test('x64: numbers of the x32 table are refused whole', () => {
  const table = ARCHITECTURES.x64;
  assert.ok(table);
  for (const number of [0x40000000, 0x40000000 + 41, 0x40000000 + 250, 0xffffffff]) {
    assert.is(answer(filterOf('x64'), { arch: table.audit, number }), SECCOMP_ENOSYS);
  }
});

test('an architecture without a table has no filter, and so no sandbox (promise 14)', () => {
  for (const arch of ['ia32', 'arm', 'riscv64', 'ppc64', 's390x', 'loong64', '']) {
    assert.is(seccompProgram(arch), null);
  }
});

test.run();
