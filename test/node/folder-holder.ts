/** Run as a process of its own: opens the folder given, says `held`, and keeps it until it is ended. */
import { writeSync } from 'node:fs';
import { openFolder } from '../../node/folder.ts';

const folder = await openFolder(process.argv[2]!, { create: true });
writeSync(1, 'held\n');
setInterval(() => folder, 60_000);
