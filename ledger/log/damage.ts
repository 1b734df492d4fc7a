import { SuperfleetError } from '../../protocol/errors.ts';

/** Where a log stops being what was signed. */
export interface DamagePlace {
  /** Path of the segment, or of the exported file. */
  segment: string;
  /** Byte in that file where the first bad line begins. */
  offset: number;
  /** Index of the entry that should have come there. */
  index: number;
}

const REPAIR_HINT =
  'Nothing was changed. With the founder stopped, `mesh-hub ledger repair --from PEER|FILE` mends it from a replica, ' +
  'an export or another copy of the log, and keeps what is damaged. Where there is none, copy the folder before anything else.';

/** `SF_LOG_DAMAGED`: nothing was changed, and `place` says where. */
export class LogDamagedError extends SuperfleetError {
  readonly place: DamagePlace;

  /** `hint`: what to do where it is not the log of this folder. */
  constructor(place: DamagePlace, why: string, cause?: unknown, hint: string = REPAIR_HINT) {
    super(
      'SF_LOG_DAMAGED',
      `the log is damaged in ${place.segment} at byte ${place.offset}, before entry ${place.index}: ${why}`,
      {
        expected: `entry ${place.index} or the checkpoint before it, as it was signed`,
        got: why,
        hint,
        cause,
      },
    );
    this.place = place;
  }
}
