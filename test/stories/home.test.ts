// limit: 240 s
import { join } from 'node:path';
import { test } from 'uvu';
import { greeter, isRoot } from '../net/mesh.ts';
import { Story } from './story.ts';

const title = 'Somebody at home with three machines, one of them a Mac with the big model';
const MODEL = 'qwen3-coder:30b';

if (!isRoot) {
  console.log('skipped: the stories make network namespaces and need root');
  test.skip(title);
} else {
  test(title, () =>
    Story.tell('home', title, ['attic', 'laptop', 'macbook'], async (story, attic, laptop, macbook) => {
      story.says(
        'The old computer in the attic is always on: it becomes the founder. Its terminal stays open, and asks when somebody comes.',
      );
      await attic!.types('mesh-hub init --name home', { sees: ['recovery'] });
      const desk = attic!.opens('mesh-hub start');
      await desk.sees(/listening on [^\n]+\n/, 20_000);

      story.says('On the laptop: can it work? And in.');
      await laptop!.types('mesh-node doctor', { sees: [/sandbox/] });
      const joining = laptop!.opens('mesh-node join');
      const [, code] = await joining.sees(/(\d{3}-\d{3}-\d{3})[^\n]*\n/, 30_000);
      await desk.sees(new RegExp(`laptop wants to join, code ${code} \\[y/N\\]`));
      desk.answers('y\r');
      await joining.sees(/ready: laptop[^\n]*\nlistening[^\n]*\n/);
      await desk.sees(/laptop is in[^\n]*\n/);

      story.says(
        `The Mac has no sandbox that is strong enough, and the model that is too big for the others. A scripted server that speaks Ollama’s HTTP stands in for Ollama, and a Linux host without bubblewrap for the Mac.`,
      );
      macbook!.sandbox = false;
      const ollama = macbook!.runs([
        process.execPath,
        join(import.meta.dirname, 'scripted-ollama.ts'),
        MODEL,
      ]);
      await ollama.says(/listening/);
      const lending = macbook!.opens('mesh-node join');
      const [, second] = await lending.sees(/(\d{3}-\d{3}-\d{3})[^\n]*\n/, 30_000);
      await desk.sees(new RegExp(`macbook wants to join, code ${second} \\[y/N\\]`));
      desk.answers('y\r');
      await desk.sees(/macbook is in[^\n]*\n/);
      await lending.sees(/ready: macbook[^\n]*\n/);
      await lending.sees(/it serves models, and keeps the log where it is made a replica[^\n]*\n/);

      story.says('In another window of the attic: all there is.');
      await attic!.types('mesh-hub status', { sees: [/laptop/, /macbook/] });
      await attic!.types('mesh-hub node list', { sees: [new RegExp(`macbook .*${MODEL}`)] });

      story.says('Work is sent from where the person sits.');
      laptop!.folder = await greeter(join(laptop!.home, 'greeter'));
      const run = await laptop!.types(
        "mesh-node task run --check 'sh test.sh' --wait -- sed -i s/Helo/Hello/ greet.sh",
        { within: 30_000, sees: [/verified by/] },
      );
      const id = run.out.split('\n').at(-1)!;
      story.scrub(id, 'ID');
      await laptop!.types(`mesh-node task diff ${id}`, { sees: ['+echo "Hello'] });
      await laptop!.types(`mesh-node task apply ${id}`);

      story.says('What waits says why: the machine that has the model runs no tasks.');
      const waiting = await laptop!.types(`mesh-node task run --model ${MODEL} -- true`);
      story.scrub(waiting.out, 'OTHER');
      await laptop!.types(`mesh-node task why ${waiting.out}`, {
        sees: [/macbook .*sandbox/, /laptop .*model/],
      });
      await laptop!.types(`mesh-node task stop ${waiting.out}`);

      story.says('The owner of the laptop needs it: one command, nobody’s permission.');
      await laptop!.types('mesh-node pause 2h');
      await laptop!.types('mesh-node status', { sees: [/paused/] });

      story.says('Good night: Ctrl-C in the attic.');
      desk.answers('\x03');
      await desk.ends(0);
    }),
  );
}

test.run();
