import * as assert from 'uvu/assert';
import { SuperfleetError } from '../protocol/errors.ts';

/** What the work is refused with; fails where it is not, or ends with anything else. */
export async function refused(work: Promise<unknown>): Promise<SuperfleetError> {
  try {
    await work;
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError, String(thrown));
    return thrown as SuperfleetError;
  }
  throw new Error('expected a refusal');
}
