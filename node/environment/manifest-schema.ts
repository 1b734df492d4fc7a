import { z } from 'zod';
import { parseDuration } from '../../protocol/duration.ts';
import { taskToolsMax } from '../../protocol/limits.ts';
import { parseSize } from '../../protocol/size.ts';
import { commandSpec, taskLimits, toolName, toolRange } from '../../protocol/task.ts';
import { isHostPattern } from './host-pattern.ts';

const hostsMax = 64;
const cachePathsMax = 64;

const field = <T extends z.ZodType>(expected: string, schema: T): T => schema.describe(expected);

const read = (parse: (text: string) => number) =>
  z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch {
      context.addIssue({ code: 'custom' });
      return z.NEVER;
    }
  });

const cachePath = z
  .string()
  .max(512)
  .refine(
    (path) =>
      path.split('/').every((name) => !['', '.', '..', '.git'].includes(name)) && !path.includes('\0'),
  );

const size = (most: z.ZodType<number, number>) => read(parseSize).pipe(most);
const { memoryBytes, processes, workspaceBytes } = taskLimits.shape;
const { timeoutMs, checkTimeoutMs } = commandSpec.shape;

const EXPECTED = {
  lines: 'a list of at most 64 command lines, each 1 to 4096 characters',
  duration: 'a duration of at least 1ms, such as 30s, 5m or 2h',
  size: 'a size, such as 512MiB or 4GiB',
} as const;

/** The fields of a manifest; each is described by what is expected of it. */
export const manifestSchema = z
  .strictObject({
    prepare: field(EXPECTED.lines, commandSpec.shape.checks.unwrap()),
    checks: field(EXPECTED.lines, commandSpec.shape.checks.unwrap()),
    checkFiles: field(
      'a list of at most 64 globs of files in the repository, without ..',
      commandSpec.shape.checkFiles.unwrap(),
    ),
    limits: field(
      'memory, workspace, processes, timeout or checkTimeout',
      z
        .strictObject({
          memory: field(EXPECTED.size, size(memoryBytes.unwrap())),
          workspace: field(EXPECTED.size, size(workspaceBytes.unwrap())),
          processes: field('a whole number from 1 to 65536', processes.unwrap()),
          timeout: field(EXPECTED.duration, read(parseDuration).pipe(timeoutMs.unwrap())),
          checkTimeout: field(EXPECTED.duration, read(parseDuration).pipe(checkTimeoutMs.unwrap())),
        })
        .partial(),
    ),
    needs: field(
      'tools or network',
      z
        .strictObject({
          tools: field(
            `at most ${taskToolsMax} tools by name, each with its versions, such as node: ">=20 <25"`,
            z
              .record(toolName, toolRange)
              .refine((all) => Object.keys(all).length <= taskToolsMax)
              .transform((all) => ({ ...all })),
          ),
          network: field(
            `a list of at most ${hostsMax} hosts, such as registry.example.org or "*.example.org"`,
            z.array(z.string().refine(isHostPattern)).max(hostsMax),
          ),
        })
        .partial(),
    ),
    cache: field(
      `a list of at most ${cachePathsMax} paths in the repository, such as node_modules, without . and ..`,
      z.array(cachePath).max(cachePathsMax),
    ),
  })
  .partial();
