/**
 * The sandbox's seccomp filter as bytes: a classic BPF program (`struct sock_filter` of linux/filter.h, little-endian)
 * that bubblewrap loads from a file descriptor. Pure code, one table of numbers per architecture.
 */

/** `struct seccomp_data`: what the program may look at. Arguments are 64 bits; their low half comes first. */
const OFFSET_NUMBER = 0;
const OFFSET_ARCH = 4;
const OFFSET_ARG0_LOW = 16;

const BPF_LOAD_WORD = 0x20;
const BPF_JUMP_EQUAL = 0x15;
const BPF_JUMP_GREATER_EQUAL = 0x35;
const BPF_RETURN = 0x06;

export const SECCOMP_ALLOW = 0x7fff0000;
const SECCOMP_ERRNO = 0x00050000;
/** A call of a foreign architecture's table: there is no honest reason for one, so the process ends. */
export const SECCOMP_KILL = 0x80000000;
export const SECCOMP_EPERM = SECCOMP_ERRNO | 1;
const ENOSYS = 38;
export const SECCOMP_ENOSYS = SECCOMP_ERRNO | ENOSYS;
const EAFNOSUPPORT = 97;
export const SECCOMP_EAFNOSUPPORT = SECCOMP_ERRNO | EAFNOSUPPORT;

/** UNIX, INET, INET6 and NETLINK: with no network but `lo` they reach nobody outside. All others are refused. */
export const ALLOWED_FAMILIES: readonly number[] = [1, 2, 10, 16];
const AF_NETLINK = 16;
/** The one netlink protocol programs need to list interfaces; the others reach old and rarely used kernel code. */
const NETLINK_ROUTE = 0;
const OFFSET_ARG2_LOW = 32;

interface Architecture {
  /** AUDIT_ARCH of linux/audit.h. */
  audit: number;
  /** First number of a second table under the same AUDIT_ARCH (x32), refused whole. */
  alienFrom: number | null;
  socket: number;
  socketpair: number;
  denied: Readonly<Record<string, number>>;
  /** Answered ENOSYS, so that programs take their older way instead of failing. */
  missing: Readonly<Record<string, number>>;
}

/** Numbers that every architecture shares, from 424 on. */
const COMMON_MISSING = {
  // Kernel code that a task has no need of and that has let tasks out before. libuv, curl and databases fall back.
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
};
const COMMON_DENIED = {
  // The newer mount interface: `mount` itself needs a capability that --disable-userns withholds; so do these, but
  // they have less history, and nothing in a sandbox mounts.
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mount_setattr: 442,
  quotactl_fd: 443,
  // Pages that neither the owner nor the kernel can look at or count the usual way.
  memfd_secret: 447,
};

/** By `process.arch`. An architecture without a table has no sandbox. */
export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x64: {
    audit: 0xc000003e,
    alienFrom: 0x40000000,
    socket: 41,
    socketpair: 53,
    denied: {
      // Keyrings are shared with the owner's session and not part of any namespace.
      add_key: 248,
      request_key: 249,
      keyctl: 250,
      // Tracing and programs in the kernel: wide, privileged by design, open on machines set up for developers.
      bpf: 321,
      perf_event_open: 298,
      lookup_dcookie: 212,
      // Lets a page fault wait for the task: the usual help of kernel exploits.
      userfaultfd: 323,
      // The kernel's log names addresses and the owner's devices; readable where dmesg_restrict is off.
      syslog: 103,
      mount: 165,
      umount2: 166,
      pivot_root: 155,
      // File handles reach past the mount tree.
      name_to_handle_at: 303,
      open_by_handle_at: 304,
      // Joining another namespace is never a task's business.
      setns: 308,
      quotactl: 179,
      acct: 163,
      swapon: 167,
      swapoff: 168,
      reboot: 169,
      kexec_load: 246,
      kexec_file_load: 320,
      init_module: 175,
      finit_module: 313,
      delete_module: 176,
      settimeofday: 164,
      clock_settime: 227,
      adjtimex: 159,
      clock_adjtime: 305,
      iopl: 172,
      ioperm: 173,
      modify_ldt: 154,
      vhangup: 153,
      fanotify_init: 300,
      ...COMMON_DENIED,
    },
    missing: COMMON_MISSING,
  },
  arm64: {
    audit: 0xc00000b7,
    alienFrom: null,
    socket: 198,
    socketpair: 199,
    denied: {
      add_key: 217,
      request_key: 218,
      keyctl: 219,
      bpf: 280,
      perf_event_open: 241,
      lookup_dcookie: 18,
      userfaultfd: 282,
      syslog: 116,
      mount: 40,
      umount2: 39,
      pivot_root: 41,
      name_to_handle_at: 264,
      open_by_handle_at: 265,
      setns: 268,
      quotactl: 60,
      acct: 89,
      swapon: 224,
      swapoff: 225,
      reboot: 142,
      kexec_load: 104,
      kexec_file_load: 294,
      init_module: 105,
      finit_module: 273,
      delete_module: 106,
      settimeofday: 170,
      clock_settime: 112,
      adjtimex: 171,
      clock_adjtime: 266,
      vhangup: 58,
      fanotify_init: 262,
      ...COMMON_DENIED,
    },
    missing: COMMON_MISSING,
  },
};

interface Instruction {
  code: number;
  /** Instructions to skip when the comparison holds, and when it does not. */
  jt: number;
  jf: number;
  k: number;
}

const load = (offset: number): Instruction => ({ code: BPF_LOAD_WORD, jt: 0, jf: 0, k: offset });
const answer = (value: number): Instruction => ({ code: BPF_RETURN, jt: 0, jf: 0, k: value });
const unlessEqualSkip = (k: number, skip: number): Instruction => ({
  code: BPF_JUMP_EQUAL,
  jt: 0,
  jf: skip,
  k,
});
const ifEqualSkip = (k: number, skip: number): Instruction => ({ code: BPF_JUMP_EQUAL, jt: skip, jf: 0, k });

/**
 * The filter for `arch` (a value of `process.arch`), ready for `bwrap --seccomp`; null where there is no table.
 * Compares the architecture first: numbers mean nothing without it.
 */
export function seccompProgram(arch: string): Uint8Array | null {
  const table = ARCHITECTURES[arch];
  if (table === undefined) return null;
  const program: Instruction[] = [
    load(OFFSET_ARCH),
    ifEqualSkip(table.audit, 1),
    answer(SECCOMP_KILL),
    load(OFFSET_NUMBER),
  ];
  if (table.alienFrom !== null) {
    program.push({ code: BPF_JUMP_GREATER_EQUAL, jt: 0, jf: 1, k: table.alienFrom }, answer(SECCOMP_ENOSYS));
  }
  for (const number of Object.values(table.denied))
    program.push(unlessEqualSkip(number, 1), answer(SECCOMP_EPERM));
  for (const number of Object.values(table.missing))
    program.push(unlessEqualSkip(number, 1), answer(SECCOMP_ENOSYS));

  const families: Instruction[] = [
    load(OFFSET_ARG0_LOW),
    unlessEqualSkip(AF_NETLINK, 3),
    load(OFFSET_ARG2_LOW),
  ];
  families.push(ifEqualSkip(NETLINK_ROUTE, 1), answer(SECCOMP_EAFNOSUPPORT));
  // After a jump taken to here the accumulator may hold the protocol, so the family is loaded again.
  families.push(load(OFFSET_ARG0_LOW));
  for (const family of ALLOWED_FAMILIES) families.push(unlessEqualSkip(family, 1), answer(SECCOMP_ALLOW));
  families.push(answer(SECCOMP_EAFNOSUPPORT));
  program.push(
    ifEqualSkip(table.socket, 2),
    ifEqualSkip(table.socketpair, 1),
    answer(SECCOMP_ALLOW),
    ...families,
  );
  return encode(program);
}

function encode(program: Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, jt, jf, k }, index) => {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jt, index * 8 + 2);
    bytes.writeUInt8(jf, index * 8 + 3);
    bytes.writeUInt32LE(k >>> 0, index * 8 + 4);
  });
  return bytes;
}
