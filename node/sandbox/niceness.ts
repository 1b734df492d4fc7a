/** The kernel gives each step of niceness about a tenth less: a weight of 10 is about ten steps. Pure. */
export const nicenessOf = (cpuWeight: number): number =>
  Math.min(19, Math.max(0, Math.round(Math.log(cpuWeight / 100) / Math.log(0.8))));
