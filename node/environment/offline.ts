/**
 * What tells package managers that there is no network, as their own documentation has it: each then says at once what it lacks,
 * where it would look names up and try again for a minute or more. What a task sets itself goes before it.
 */
export const offlineVariables: Readonly<Record<string, string>> = {
  CARGO_NET_OFFLINE: 'true',
  GOPROXY: 'off',
  GOTOOLCHAIN: 'local',
  PIP_NO_INDEX: '1',
  npm_config_offline: 'true',
};
