import { suite } from 'uvu';
import { MemoryBlobStore } from '../../../node/blobs/memory.ts';
import { blobStoreSuite } from './suite.ts';

const memory = suite('memory');
blobStoreSuite(memory, async (options) => {
  const store = new MemoryBlobStore(options);
  return {
    store,
    damage: async (blob, at) => store.damage(blob, at),
    close: async () => undefined,
  };
});
memory.run();
