/**
 * Tests that run tasks never do so as root (promise 14): started as root, this process becomes a user of its own,
 * whole and for good, with no name, no groups and no capabilities. Called before a test makes its first file.
 */
export function dropRoot(): void {
  if (process.getuid?.() !== 0) return;
  // A uid per process: what one test file may use up (processes, keys) is not another's.
  const uid = 200_000 + (process.pid % 100_000);
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  process.umask(0o022);
}
