import { usageError } from './usage-errors.ts';

/** One axis of a matrix: a name, and what stands for it in turn. */
export interface Axis {
  name: string;
  values: string[];
}

const nameForm = /^[A-Za-z][A-Za-z0-9_-]{0,31}$/;

/** `name=a,b`, gathered. */
export function matrixAxis(text: string, before: Axis[] = []): Axis[] {
  const at = text.indexOf('=');
  const name = text.slice(0, Math.max(0, at));
  const values = text.slice(at + 1).split(',');
  if (!nameForm.test(name) || values.includes('')) {
    throw usageError('--matrix is not of the form asked for', {
      expected: 'NAME=VALUE,VALUE… with a name of letters, digits, _ -',
      got: text,
      hint: "task run --matrix os=linux,bsd -- make '{os}'",
    });
  }
  const twice = new Set(values).size < values.length || before.some((axis) => axis.name === name);
  if (twice) {
    throw usageError('--matrix says something twice', {
      expected: 'each name once, with values that differ',
      got: text,
    });
  }
  return [...before, { name, values }];
}
