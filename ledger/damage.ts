import { SuperfleetError } from '../protocol/errors.ts';

/** Where a log stops being what was signed. */
export interface DamagePlace {
  /** Path of the segment, or of the exported file. */
  segment: string;
  /** Byte in that file where the first bad line begins. */
  offset: number;
  /** Index of the entry that should have come there. */
  index: number;
}

/** `SF_LOG_DAMAGED`: nothing was changed, and `place` says where. */
export class LogDamagedError extends SuperfleetError {
  readonly place: DamagePlace;

  constructor(place: DamagePlace, why: string, cause?: unknown) {
    super(
      'SF_LOG_DAMAGED',
      `the log is damaged in ${place.segment} at byte ${place.offset}, before entry ${place.index}: ${why}`,
      {
        expected: `entry ${place.index} or the checkpoint before it, as it was signed`,
        got: why,
        hint:
          'Nothing was changed. Put the folder of the log back from a replica or a backup; if there is none, keep a ' +
          'copy of it before anything else. `mesh-hub ledger verify` shows how far it is sound.',
        cause,
      },
    );
    this.place = place;
  }
}
