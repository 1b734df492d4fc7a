// limit: 300 s
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import { Client } from '../../node/api/client.ts';
import { type FakeTime, fakeTime, faketime } from '../net/faketime.ts';
import { greeter, isRoot } from '../net/mesh.ts';
import { type Machine, Story } from './story.ts';

const title = 'An admin with a room of desktops, whose users come back at nine';
const DESKTOPS = 6;
/** The clock of all machines, which this file moves: seconds from now to a time on the Monday to come. */
class Clock {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  env(): NodeJS.ProcessEnv {
    return {
      TZ: 'UTC',
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
    };
  }

  set(hours: number, minutes: number, seconds = 0): void {
    const then = new Date();
    then.setUTCDate(then.getUTCDate() + ((8 - then.getUTCDay()) % 7) + 7);
    then.setUTCHours(hours, minutes, seconds, 0);
    writeFileSync(this.#file, `+${Math.round((then.getTime() - Date.now()) / 1000)}s\n`);
  }
}

/** Asks a hub until the states of its tasks are as wished. */
async function all(hub: Machine, wished: (states: string[]) => boolean, within = 60_000): Promise<void> {
  const client = new Client({ dir: join(hub.home, 'mesh'), startHint: 'mesh-hub start' });
  const deadline = performance.now() + within;
  for (;;) {
    const { items } = await client.get<{ items: { state: string; detail: string | null }[] }>('/v1/tasks');
    const states = items.map(({ state }) => state);
    if (wished(states)) return;
    if (performance.now() > deadline) {
      const told = items.map(({ state, detail }) => (detail === null ? state : `${state} (${detail})`));
      throw new Error(`after ${within} ms the tasks are ${told.join(', ')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

if (!isRoot || faketime === undefined) {
  console.log('skipped: this story makes network namespaces and sets clocks; it needs root and libfaketime');
  test.skip(title);
} else {
  const names = Array.from({ length: DESKTOPS }, (_, n) => `pc-${n + 1}`);
  const times: FakeTime[] = [];
  test.after(async () => {
    for (const time of times) await time.close();
  });
  test(title, () =>
    Story.tell('admin', title, ['office', ...names], async (story, office, ...desktops) => {
      const [first, , third] = desktops as [Machine, Machine, Machine];
      const clock = new Clock(join(story.home, 'clock'));
      clock.set(8, 30);
      for (const machine of [office!, ...desktops]) {
        // Of its own: who is killed while it reads the clock holds up those that share it.
        const time = await fakeTime();
        times.push(time);
        Object.assign(machine.env, time.env, clock.env());
      }
      story.says(
        'It is half past eight on a Monday; six of the thirty desktops stand for all. The admin makes the mesh on a machine that is always on, and one invite for the whole room: good thirty times, for an hour, only for work, only outside office hours.',
      );
      await office!.types('mesh-hub init --name office', { sees: ['recovery'] });
      await office!.types('mesh-hub start --detach');
      const invite = await office!.types(
        'mesh-hub invite --uses 30 --expires 1h --label room=b12 --role worker --policy hours=17:00-09:00',
        { sees: [/30 times/] },
      );
      const token = invite.out;
      story.scrub(token, 'TOKEN');

      story.says(
        'The same line goes to every desktop, by whatever the admin uses for such things. It asks nothing. These hosts have no systemd, and the last sentences say so; where there is one, the service brings the node back at every boot and the command ends with 0.',
      );
      const joined = await first.types(`mesh-node join ${token} --yes --service`, {
        exit: 6,
        within: 45_000,
        sees: [/systemd/],
      });
      story.says('The other five, at the same time:');
      await Promise.all(
        desktops.slice(1).map((desktop, n) =>
          n === 0
            ? desktop.types(`mesh-node join ${token} --yes --service`, {
                exit: 6,
                within: 120_000,
                show: /^ready/,
              })
            : desktop.does(`mesh-node join ${token} --yes --service`, { exit: 6, within: 120_000 }),
        ),
      );
      await office!.types('mesh-hub node list', {
        sees: names.map((name) => new RegExp(`${name} .*online`)),
      });

      story.says(
        'A power cut on pc-1. What systemd would run at boot is in the unit; here it is run by hand.',
      );
      const pid = /in the background as process (\d+)/.exec(joined.text)![1]!;
      process.kill(Number(pid), 'SIGKILL');
      const unit = await first.types('mesh-node service install --print', {
        sees: ['ExecStart='],
        show: /^(Type|ExecStart|Restart|Delegate)/,
      });
      const command = /^ExecStart=:?(.*)$/m.exec(unit.out)![1]!;
      await first.types(`${command} --detach`, { sees: [/ready/] });

      story.says(
        'There is work for the night that is still going on, of twenty-one minutes at most: what could not end by nine would not begin.',
      );
      office!.folder = await greeter(join(office!.home, 'greeter'));
      const runs: string[] = [];
      for (const name of names) {
        const run = await office!.types(
          `mesh-hub task run --on ${name} --check 'sh test.sh' --timeout 20m --check-timeout 1m -- sleep 900`,
        );
        runs.push(run.out);
        story.scrub(run.out, `TASK-${name}`);
      }
      await all(office!, (states) => states.length === DESKTOPS && states.every((is) => is === 'running'));
      await office!.types('mesh-hub status', { sees: [/running/] });

      story.says('Nine o’clock. Nobody stops anything; the machines do, within seconds.');
      clock.set(8, 59, 58);
      await all(office!, (states) => states.includes('queued') && !states.includes('running'), 15_000);
      await first.types('mesh-node status', { sees: [/outside 17:00-09:00/] });
      await office!.types(`mesh-hub task why ${runs[0]}`, { sees: [/17:00-09:00/] });
      await office!.types(`mesh-hub task describe ${runs[0]}`, { sees: [/queued/], not: [/failed/] });

      story.says(
        'The disk of pc-3 died. It gets a new one, and a token of its own: with it the machine takes its old place, and nobody can take that of one that is online.',
      );
      await third.does('mesh-node stop && rm -rf "$MESH_HOME"');
      const replace = await office!.types('mesh-hub invite --replace pc-3', { sees: [/pc-3/] });
      story.scrub(replace.out, 'TOKEN-FOR-PC-3');
      await third.types(`mesh-node join ${replace.out} --yes --detach`, { sees: [/ready: pc-3 /] });
      await office!.types('mesh-hub node list', { sees: [/pc-3 +paused/], show: /^(NAME|pc-3)/ });

      story.says('pc-5 is given away.');
      await office!.types('mesh-hub node revoke pc-5 --reason "given away"');
      await office!.types('mesh-hub node list', { sees: [/pc-5 +revoked/], show: /^(NAME|pc-5)/ });
    }),
  );
}

test.run();
