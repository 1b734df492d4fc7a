import type { FounderInput } from '../../../hub/core/types.ts';
import type { Log } from '../../../ledger/log/log.ts';
import type { MeshState } from '../../../ledger/state/state.ts';
import { FounderHost, type FounderWorld } from '../founder-host.ts';
import type { Machine } from '../machine.ts';

/** The founder's process over a real log: the core decides, the log makes durable, the gate lets out. */
export class Leader extends FounderHost {
  readonly log: Log;
  protected override readonly merges = false;
  readonly #failed: (error: unknown) => void;
  #held: FounderInput[] | null = null;
  #stopped = false;

  constructor(machine: Machine, world: FounderWorld, log: Log, failed: (error: unknown) => void) {
    super(machine, world);
    this.log = log;
    this.#failed = failed;
  }

  begin(lines: string[], state: MeshState): void {
    this.lines = lines;
    this.durable = this.log.size;
    this.log.subscribe(({ checkpoint }) => this.synced(checkpoint.size, checkpoint));
    this.lead(state);
    this.synced(this.log.size, this.log.checkpoint);
  }

  /** Takes in, and decides nothing, until `release`. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const input of held) this.step(input);
  }

  stop(): void {
    this.#stopped = true;
    this.core = null;
  }

  override step(input: FounderInput): void {
    if (this.#stopped) return;
    if (this.#held !== null && input.type !== 'durable') {
      if (input.type !== 'tick') this.#held.push(input);
      return;
    }
    super.step(input);
  }

  protected override append({ made }: Parameters<FounderHost['append']>[0]): void {
    try {
      const appended = this.log.appendMade(made);
      appended.durable.catch((error: unknown) => this.#failed(error));
    } catch (error) {
      this.stop();
      this.#failed(error);
      return;
    }
    for (const { line } of made) {
      this.lines.push(line);
      this.world.trace(`log ${line.slice(0, 200)}`);
    }
  }
}
