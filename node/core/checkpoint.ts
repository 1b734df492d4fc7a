/**
 * Size named by a checkpoint's text (C2SP: origin, size, root, blank line, signatures); -1 for none or nonsense. Who
 * compares sizes must have verified the signature, or be content that a wrong one only delays it.
 */
export function checkpointSize(checkpoint: string | null): number {
  const line = checkpoint?.split('\n', 2)[1] ?? '';
  return /^(0|[1-9][0-9]{0,15})$/.test(line) ? Number(line) : -1;
}
