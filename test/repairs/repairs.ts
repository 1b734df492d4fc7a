import { c } from './c.ts';
import { node } from './node.ts';
import { perl } from './perl.ts';
import { python } from './python.ts';
import type { Repair } from './repair.ts';
import { shell } from './shell.ts';
import { textTools } from './text-tools.ts';

/** Every repair that a model can be expected to bring to its end. */
export const repairs: readonly Repair[] = [...shell, ...textTools, ...perl, ...python, ...node, ...c];
