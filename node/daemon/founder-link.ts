import type { Logger } from 'pino';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Host } from '../network/host.ts';
import { type Link, type LinkOptions, type LinkState, startLink } from '../network/link.ts';
import { strangeFounder } from '../network/whose.ts';
import type { Membership } from './membership.ts';
import type { Lifetime } from './process.ts';

/** The founder has this long to answer a goodbye of a member that leaves. */
const LEAVE_MS = 15_000;
/** So long a start waits for the founder's first word, which may be that this is no member any more. */
const FIRST_WORD_MS = 2_000;
/** One that took the session says its word within this. */
const ANSWER_MS = 8_000;

export interface FounderLinkOptions extends Pick<LinkOptions, 'addresses' | 'barred' | 'attach'> {
  host: Host;
  membership: Membership;
  lifetime: Lifetime;
  logger: Logger;
  /** Where a person said that the founder is; null: nobody did. */
  named: string | null;
  /** A session was opened, and the founder welcomed this machine. @default nobody asks */
  onOnline?(): void;
}

/** The link to the founder as a member's process lives with it: what of its states ends the process, and what is only said. */
export class FounderLink {
  readonly #options: FounderLinkOptions;
  #link: Link | null = null;
  #leaving = false;
  /** While this machine leaves: hears that the founder answers, or that this is no member any more. */
  #told: ((state: LinkState) => void) | null = null;
  #everOnline = false;
  /** Whose founder is at the address a person named was asked. */
  #asked = false;
  /** A session was opened: the founder is there. */
  #heard = false;
  readonly #firstWord = Promise.withResolvers<void>();

  constructor(options: FounderLinkOptions) {
    this.#options = options;
    options.lifetime.onStop(() => this.#link?.stop());
  }

  start(): void {
    const { host, membership, addresses, barred, attach } = this.#options;
    this.#link = startLink({
      host,
      founder: () => membership.founder,
      addresses,
      ...(barred && { barred }),
      attach: (session) => {
        this.#heard = true;
        return attach(session);
      },
      onState: (state) => this.#took(state),
    });
  }

  /** As of `Link`; nothing before `start`. */
  again(): void {
    this.#link?.again();
  }

  /** The founder said in a session that it wants no more of this machine: where that was not asked for, it ends. */
  refused(code: string, message: string): void {
    if (!this.#leaving) this.#options.lifetime.end(refusal(code, message));
  }

  /** Resolves with the founder's first word, or when there was long enough time for one. */
  async ready(): Promise<void> {
    // A founder that is there may first have to see whether another machine has this identity.
    let late = setTimeout(() => {
      if (!this.#heard) this.#firstWord.resolve();
      else late = setTimeout(() => this.#firstWord.resolve(), ANSWER_MS);
    }, FIRST_WORD_MS);
    await this.#firstWord.promise;
    clearTimeout(late);
  }

  /** Tells the founder by `say` that this machine leaves, again in a new session where one breaks; false: it could not be told. */
  async leave(say: () => boolean): Promise<boolean> {
    this.#leaving = true;
    const heard = new Promise<boolean>((resolve) => {
      this.#told = (state) => {
        // A connection that broke leaves open whether the founder heard it: the next one tells.
        if (state.state === 'online') say();
        else resolve(true);
      };
      setTimeout(() => resolve(false), LEAVE_MS).unref();
    });
    if (say() && (await heard)) return true;
    this.#leaving = false;
    return false;
  }

  #took(state: LinkState): void {
    const { lifetime, logger } = this.#options;
    if (state.state !== 'connecting') setImmediate(() => this.#firstWord.resolve());
    const gone = 'code' in state && (state.code === 'SF_REFUSED' || state.code === 'SF_REVOKED');
    if (state.state === 'online') this.#online();
    if (state.state === 'waiting') {
      // Before it was ever in: whoever starts the copy of a machine sees it at once. Later it waits for its turn.
      if (state.code === 'SF_CONFLICT' && !this.#everOnline) lifetime.end(duplicate(state.message));
      if (state.code === 'SF_UNREACHABLE') this.#askWhose();
      logger.warn({ code: state.code }, `no founder: ${state.message}`);
    }
    if (state.state === 'online' || gone) this.#told?.(state);
    if (state.state === 'refused') this.refused(state.code, state.message);
  }

  #online(): void {
    const { host, logger, membership } = this.#options;
    this.#everOnline = true;
    logger.info('the founder answers');
    this.#options.onOnline?.();
    const address = host.reachedAt(membership.founder);
    if (address === null || this.#leaving) return;
    membership.reachedAt(address).catch((cause: unknown) => {
      logger.warn({ cause: String(cause) }, 'the address of the founder could not be kept');
    });
  }

  #askWhose(): void {
    const { host, logger, membership, named } = this.#options;
    if (named === null || this.#asked) return;
    this.#asked = true;
    void strangeFounder(host, named, membership.genesis.mesh).then((strange) => {
      if (strange === null) return;
      logger.warn({ expected: strange.expected, got: strange.got }, strange.message);
    });
  }
}

/** Why the founder wants no more of this machine, and the way out. */
const refusal = (code: string, message: string): SuperfleetError =>
  code === 'SF_VERSION'
    ? new SuperfleetError(code, message)
    : new SuperfleetError('SF_REVOKED', message, {
        expected: 'a member of the mesh',
        hint: 'another data folder is a new identity: mesh-node join TOKEN --dir PATH',
      });

const duplicate = (message: string): SuperfleetError =>
  new SuperfleetError('SF_REFUSED', message, {
    expected: 'one machine with this identity',
    got: 'a second one: was the disk or the data folder copied?',
    hint: 'give this one an identity of its own: mesh-node join TOKEN --dir PATH, with an empty folder',
  });
