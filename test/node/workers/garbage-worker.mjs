// A worker that talks nonsense, on the channel on which answers are awaited.
import { writeSync } from 'node:fs';

writeSync(2, 'I am not well\n');
writeSync(3, Buffer.from('\x04\0\0\0what'));
setInterval(() => {}, 60_000);
