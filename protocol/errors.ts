/**
 * The one registry of error codes. Scripts match on `code`, never on the text; the exit codes are those of
 * the outside contract (`docs/cli.md`).
 */
export const EXIT = {
  ok: 0,
  taskFailed: 1,
  usage: 2,
  unreachable: 3,
  refused: 4,
  notProved: 5,
  machine: 6,
  internal: 70,
  interrupted: 130,
} as const;

interface CodeFacts {
  /** Process exit code of a command that ends with this error. */
  exit: number;
  /** HTTP status where the error crosses `/v1`. */
  status: number;
  /** What the code means, for the table in the documents. */
  meaning: string;
}

const facts = (exit: number, status: number, meaning: string): CodeFacts => ({ exit, status, meaning });

export const ERROR_CODES = {
  SF_USAGE: facts(EXIT.usage, 400, 'a flag, field or argument is not of the form asked for'),
  SF_NOT_FOUND: facts(EXIT.usage, 404, 'nothing has the name or id given'),
  SF_CONFLICT: facts(EXIT.usage, 409, 'the object is not in a state in which this can be done'),
  SF_REPOSITORY: facts(EXIT.usage, 400, 'the repository, reference or work tree cannot be used'),
  SF_EXISTS: facts(EXIT.usage, 409, 'the name or folder is taken'),
  SF_UNREACHABLE: facts(EXIT.unreachable, 503, 'the founder does not answer'),
  SF_REFUSED: facts(EXIT.refused, 403, 'the right to do this is lacking'),
  SF_INVITE: facts(EXIT.refused, 403, 'the invite is unknown, used up, expired or of another mesh'),
  SF_REVOKED: facts(EXIT.refused, 403, 'the membership was revoked'),
  SF_REJECTED: facts(EXIT.refused, 403, 'a person said no'),
  SF_EXPIRED: facts(EXIT.refused, 410, 'the request was not answered in time'),
  SF_FULL: facts(EXIT.refused, 429, 'a bound is reached; try later'),
  SF_UNMET: facts(EXIT.refused, 409, 'no machine of the mesh can ever do what is asked'),
  SF_VERSION: facts(EXIT.refused, 426, 'the two sides speak different major versions'),
  SF_NOT_PROVED: facts(EXIT.notProved, 422, 'a signature, digest or proof does not hold'),
  SF_LOG_DAMAGED: facts(EXIT.notProved, 500, 'the log does not match what was signed'),
  SF_DISK_FULL: facts(EXIT.machine, 507, 'the disk refused the bytes'),
  SF_EQUIVOCATION: facts(
    EXIT.notProved,
    409,
    'two histories of one mesh are signed; nothing is added to either',
  ),
  SF_BEHIND: facts(EXIT.notProved, 409, 'the log lacks entries that members have seen'),
  SF_FENCED: facts(EXIT.refused, 409, 'another founder leads the mesh in a later epoch'),
  SF_LOG_FAILED: facts(EXIT.machine, 500, 'the log stopped after a failed write or sync'),
  SF_PORT_IN_USE: facts(EXIT.machine, 500, 'the port belongs to another process'),
  SF_LOCKED: facts(EXIT.machine, 500, 'the data folder is in use by another process'),
  SF_SERVICE: facts(EXIT.machine, 500, 'this machine has no service manager, or it refused'),
  SF_NO_SANDBOX: facts(EXIT.machine, 500, 'this machine has no working sandbox'),
  SF_NODE_VERSION: facts(EXIT.machine, 500, 'this Node is older than the program needs'),
  SF_FORMAT: facts(EXIT.machine, 500, 'the data folder has a format this program does not know'),
  SF_FOLDER: facts(EXIT.machine, 500, 'the data folder cannot be used as it is'),
  SF_FRAME: facts(EXIT.refused, 400, 'a frame is too large, cut off or not of the form agreed'),
  SF_TIMEOUT: facts(EXIT.unreachable, 504, 'no answer came in time'),
  SF_INTERNAL: facts(EXIT.internal, 500, 'a defect of the program'),
  SF_INTERRUPTED: facts(EXIT.interrupted, 499, 'a person or a signal ended it'),
} as const satisfies Record<string, CodeFacts>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorDetail {
  expected?: string | null;
  got?: string | null;
  hint?: string | null;
  /** When it may be tried again, ms from now; null: nobody knows. */
  retryAfterMs?: number | null;
  cause?: unknown;
}

/** The JSON form of an error, under `error` on stderr and in `/v1` answers. Absent values are null. */
export interface ErrorObject {
  code: ErrorCode;
  message: string;
  expected: string | null;
  got: string | null;
  hint: string | null;
  /** When it may be tried again, ms from now; only where that is known. */
  retryAfterMs?: number;
}

/** The error every part of the program throws on purpose: a stable code and what to do about it. */
export class SuperfleetError extends Error {
  readonly code: ErrorCode;
  readonly expected: string | null;
  readonly got: string | null;
  readonly hint: string | null;
  readonly retryAfterMs: number | null;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'SuperfleetError';
    this.code = code;
    this.expected = detail.expected ?? null;
    this.got = detail.got ?? null;
    this.hint = detail.hint ?? null;
    this.retryAfterMs = detail.retryAfterMs ?? null;
  }

  get exitCode(): number {
    return ERROR_CODES[this.code].exit;
  }

  toJSON(): ErrorObject {
    return {
      code: this.code,
      message: this.message,
      expected: this.expected,
      got: this.got,
      hint: this.hint,
      ...(this.retryAfterMs === null ? {} : { retryAfterMs: this.retryAfterMs }),
    };
  }
}

export const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(ERROR_CODES, code);

/** Any thrown value as a SuperfleetError; what was not thrown on purpose becomes `SF_INTERNAL`. */
export function asSuperfleetError(thrown: unknown): SuperfleetError {
  if (thrown instanceof SuperfleetError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SuperfleetError('SF_INTERNAL', message, { cause: thrown });
}
