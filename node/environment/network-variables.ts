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

/**
 * With a proxy. npm asks again for each package whose connection failed, after 10 s and after 60 s unless told otherwise: a hundred
 * packages of a host that cannot be reached would take minutes.
 */
export const proxiedVariables: Readonly<Record<string, string>> = {
  no_proxy: 'localhost,127.0.0.1,::1',
  npm_config_fetch_retry_mintimeout: '1000',
  npm_config_fetch_retry_maxtimeout: '4000',
};
