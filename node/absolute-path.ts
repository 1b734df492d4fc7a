import { z } from 'zod';

/** A path of this machine that an owner names. */
export const absolutePath = z
  .string()
  .max(1024)
  .regex(/^(\/[^/\0]+)+$/, 'an absolute path, such as /opt/agent')
  .refine(
    (path) => !path.split('/').some((name) => name === '.' || name === '..'),
    'a path without . and ..',
  );
