import { SuperfleetError } from '../../protocol/errors.ts';
import type { MemberPort } from '../api/port.ts';
import { forwardRequest } from '../network/api-client.ts';
import type { Host } from '../network/host.ts';
import type { KeptLog } from '../replica/keep-log.ts';
import type { FounderLink } from './founder-link.ts';
import type { MemberService } from './member-service.ts';
import type { Membership } from './membership.ts';
import { modelsPort } from './models-port.ts';
import type { Lifetime } from './process.ts';

/** What a member's process is made of, as its API sees it. */
export interface MemberParts {
  host: Host;
  membership: Membership;
  service: MemberService;
  kept: KeptLog;
  link: FounderLink;
  lifetime: Lifetime;
  /** Where the founder may be reached. */
  addresses(): readonly string[];
}

/** What the API asks of a member that runs. */
export const memberPort = ({
  host,
  membership,
  service,
  kept,
  link,
  lifetime,
  addresses,
}: MemberParts): MemberPort => ({
  status: async () => {
    const { error } = kept.frozen;
    return {
      ...service.status(),
      replica: kept.reader?.object ?? null,
      environments: await service.environments.held(),
      settings: service.settings,
      ...(error === null ? {} : { work: `takes nothing from the founder: ${error.message}` }),
    };
  },
  copy: () => kept.reader?.port ?? null,
  pause: (ms) => service.pause(ms),
  resume: () => service.resume(),
  policy: (test) => service.owner.show(test),
  setPolicy: (policy) => service.owner.set(policy),
  ...modelsPort(service.models),
  leave: async () => {
    await service.driver.owner('pause');
    if (!(await link.leave(() => service.online && service.driver.leave()))) {
      throw new SuperfleetError('SF_UNREACHABLE', 'the founder could not be told that this machine leaves', {
        expected: 'a founder that answers',
        hint: 'stop this machine with `mesh-node stop`; the operator can shut it out with `mesh-hub node revoke`',
      });
    }
    await membership.forget();
    lifetime.end();
  },
  stop: () => lifetime.end(),
  forward: async (request) => {
    if (!service.online) {
      throw new SuperfleetError('SF_UNREACHABLE', 'the founder does not answer this machine now', {
        expected: 'a session with the founder',
        hint: 'it is tried again and again; is the founder running, and on this network?',
      });
    }
    return forwardRequest(await host.dial(membership.founder, addresses(), request.signal), request);
  },
});
