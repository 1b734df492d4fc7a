/** Loaded before the sources of the program, and before what they start: the constants in its own URL have other values. */
import { registerHooks } from 'node:module';
import { type Constants, constantsOf, withValue } from './constants.ts';

const constants = JSON.parse(decodeURIComponent(new URL(import.meta.url).search.slice(1))) as Constants;

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    const here = constantsOf(url, constants);
    if (here.length === 0) return loaded;
    let source = String(loaded.source);
    for (const [name, value] of here) {
      const before = source;
      source = withValue(source, name, value);
      if (source === before) throw new Error(`${url} no longer declares ${name}`);
    }
    return { ...loaded, source };
  },
});
