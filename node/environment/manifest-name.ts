/** What a repository says of itself lies in its root under this name. */
export const manifestName = '.superfleet.yaml';
/** A manifest is written by a person. */
export const manifestBytesMax = 64 * 1024;
