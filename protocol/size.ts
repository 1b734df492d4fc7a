import { SuperfleetError } from './errors.ts';

const UNITS = [
  ['TiB', 1024 ** 4],
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024],
  ['B', 1],
] as const;

/** Bytes from `64KiB`, `100MiB`, `2GiB`, `512B`: a whole number and a binary unit. `SF_USAGE` names what came. */
export function parseSize(text: string): number {
  const match = /^(\d{1,16})(B|KiB|MiB|GiB|TiB)$/.exec(text);
  const unit = UNITS.find(([name]) => name === match?.[2]);
  const bytes = Number(match?.[1]) * (unit?.[1] ?? Number.NaN);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new SuperfleetError('SF_USAGE', `not a size: ${JSON.stringify(text.slice(0, 64))}`, {
    expected: 'a whole number and a unit, such as 64KiB, 100MiB or 2GiB',
    got: text.slice(0, 64),
    hint: 'units are B, KiB, MiB, GiB and TiB, powers of 1024',
  });
}

/** The shortest exact form that `parseSize` reads back to the same number. */
export function formatSize(bytes: number): string {
  const [name, factor] = UNITS.find(([, each]) => bytes >= each && bytes % each === 0) ?? (['B', 1] as const);
  return `${bytes / factor}${name}`;
}
