/** `npm run build`: what is published, from the sources to `dist/`. Source runs as it is; only the package needs this. */
import { buildProgram } from './build/program.ts';

await buildProgram('dist');
