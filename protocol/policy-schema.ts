import { z } from 'zod';
import { policyCharactersMax, policyWord, requirePolicy } from './policy.ts';

// Apart from what reads a policy, because commands read one and need no schemas to start.

const message = 'a policy such as always, idle, hours=18:00-08:00 or idle,hours=18:00-08:00@mon-fri';

/** A policy as it is kept and sent: well-formed words, so that an older program can hold a newer one's. */
export const policyText = z
  .string()
  .max(policyCharactersMax)
  .refine((text) => text.split(',').every((word) => policyWord.test(word)), { message });

/** A policy as a person writes it: every word of it known here. */
export const knownPolicy = policyText.refine(
  (text) => {
    try {
      return requirePolicy(text) === text;
    } catch {
      return false;
    }
  },
  { message },
);
