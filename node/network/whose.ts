import { SuperfleetError } from '../../protocol/errors.ts';
import { founderAddresses } from './founder-address.ts';
import type { Host } from './host.ts';
import { describe } from './join-client.ts';

/** Whoever is at the address answers within this, or is not told of. */
const ASK_MS = 5_000;

/**
 * Where the founder looked for is not at the address a person named: says so if another mesh's founder is. Null: nobody
 * answers there, no founder does, or it is of the mesh expected.
 */
export async function strangeFounder(
  host: Host,
  named: string,
  mesh: string,
): Promise<SuperfleetError | null> {
  const signal = AbortSignal.timeout(ASK_MS);
  for (const address of await founderAddresses(named).catch(() => [])) {
    try {
      const connection = await host.dialUnknown(address.replace(/\/p2p\/[^/]+$/, ''), signal);
      const found = await describe(connection, signal).finally(() => connection.close());
      if (found !== null) return found.mesh === mesh ? null : otherMesh(named, found, mesh);
    } catch {
      // Who cannot be asked is told of by the error that led here.
    }
  }
  return null;
}

/** Another mesh's founder is at the address; both are named. */
export const otherMesh = (
  named: string,
  found: { mesh: string; name: string },
  expected: string,
): SuperfleetError =>
  new SuperfleetError('SF_UNREACHABLE', `another mesh is at ${named}: ${found.name}`, {
    expected: `mesh ${expected}`,
    got: `mesh ${found.mesh} (${found.name})`,
    hint: 'check the address; to join the mesh that is there, ask its operator for an invite',
  });
