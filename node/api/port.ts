import type {
  EndpointObject,
  EndpointWish,
  ModelObject,
  ModelServerObject,
  OwnNodeObject,
  PolicyObject,
} from './objects.ts';
import type { ReadOnlyPort } from './read-only.ts';

/** What an owner may ask of the machine. Every promise settles after the act, not at its start. */
export interface OwnerPort {
  status(): Promise<OwnNodeObject>;
  /** The owner's stop (promise 15): resolves when nothing of a task runs any more. `null`: until `resume`. */
  pause(ms: number | null): Promise<void>;
  resume(): Promise<void>;
  /** When it works, as it is; of another policy of the owner's: as it would be. */
  policy(test?: string | null): Promise<PolicyObject>;
  /** The owner's own policy from now on, kept for the next start; null: none. */
  setPolicy(policy: string | null): Promise<PolicyObject>;
  /** Ends the membership for good; the process stops afterwards. */
  leave(): Promise<void>;
  /** Model servers found here and lent from elsewhere, as they answer now. */
  models(): Promise<ModelServerObject[]>;
  /** Lends one, whether it answers now or not; twice is once. `SF_USAGE` for no address of one. */
  addModels(url: string): Promise<ModelServerObject>;
  /** `SF_NOT_FOUND` where it was not lent. */
  removeModels(url: string): Promise<void>;
  /** Every model that can be asked from here, this machine's first. */
  allModels(): Promise<ModelObject[]>;
  endpoint(): EndpointObject;
  /** `SF_PORT_IN_USE` where another process has the port; it is as it was then. */
  setEndpoint(wish: EndpointWish): Promise<EndpointObject>;
  /** Begins an orderly stop of the process; returns at once. */
  stop(): void;
}

/** What a member's own API needs of the member process. */
export interface MemberPort extends OwnerPort {
  /** What answers in the founder's place where it can; null: this machine keeps no copy of the log. */
  copy(): ReadOnlyPort | null;
  /**
   * Hands a `/v1` request on to the founder in this member's name, body and answer streamed. Throws
   * `SF_UNREACHABLE` while there is no session, `SF_REFUSED` where the membership has no such right.
   */
  forward(request: Request): Promise<Response>;
}
