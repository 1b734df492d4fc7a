/** When jobs ended, told to the process that submitted them in few messages: one for each would be part of what is measured. */
export class Ends {
  #numbers: number[] = [];
  #times: number[] = [];
  #timer: NodeJS.Timeout | null = null;

  /** The job with this number has ended now. */
  add(number: number): void {
    this.#numbers.push(number);
    this.#times.push(now());
    this.#timer ??= setTimeout(() => {
      process.send?.({ event: 'ends', numbers: this.#numbers, times: this.#times });
      this.#numbers = [];
      this.#times = [];
      this.#timer = null;
    }, 25);
  }
}

export interface Ended {
  event: string;
  numbers: number[];
  times: number[];
}

/** The machine's monotonic clock in ms: the same for all processes. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;
