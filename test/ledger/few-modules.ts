import { registerHooks } from 'node:module';

/**
 * `--import` of a process that is started hundreds of times: of zod's sixty languages, a third of what such a process reads
 * in all, only the one that is used is loaded.
 */
registerHooks({
  load(url, context, next) {
    if (!url.endsWith('/zod/v4/locales/index.js')) return next(url, context);
    return { format: 'module', source: "export { default as en } from './en.js';", shortCircuit: true };
  },
});
