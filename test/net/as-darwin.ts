/** Loaded before the program: from here on it takes this system for macOS. What is native was loaded as what it is. */
import { createRequire } from 'node:module';

createRequire(import.meta.url)('classic-level');
Object.defineProperty(process, 'platform', { value: 'darwin' });
