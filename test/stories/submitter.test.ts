// limit: 180 s
import { join } from 'node:path';
import { test } from 'uvu';
import { greeter, isRoot } from '../net/mesh.ts';
import { Story } from './story.ts';

const title = 'Somebody who sends work from their own laptop and never sits at the founder';

if (!isRoot) {
  console.log('skipped: the stories make network namespaces and need root');
  test.skip(title);
} else {
  test(title, () =>
    Story.tell('submitter', title, ['server', 'worker', 'laptop'], async (story, server, worker, laptop) => {
      story.says(
        'The operator has a founder and one spare machine, and makes an invite for somebody who only sends work.',
      );
      await server!.types('mesh-hub init --name lab', { sees: ['recovery'] });
      await server!.types('mesh-hub start --detach');
      const donor = await server!.types('mesh-hub invite --role worker');
      story.scrub(donor.out, 'TOKEN-FOR-A-WORKER');
      await worker!.types(`mesh-node join ${donor.out} --detach`, { within: 20_000 });
      const sender = await server!.types('mesh-hub invite --role submitter');
      story.scrub(sender.out, 'TOKEN-FOR-A-SUBMITTER');

      story.says('On the laptop one command joins; it takes no work.');
      await laptop!.types(`mesh-node join ${sender.out} --detach`, {
        within: 20_000,
        sees: [/takes no tasks/],
      });
      await greeter(join(laptop!.home, 'greeter'));
      laptop!.folder = join(laptop!.home, 'greeter');

      story.says('The repository is theirs; so are the log, the patch and the receipt that come back.');
      const run = await laptop!.types(
        "mesh-node task run --check 'sh test.sh' --wait -- sed -i s/Helo/Hello/ greet.sh",
        { within: 30_000 },
      );
      const id = run.out.split('\n').at(-1)!;
      story.scrub(id, 'ID');
      await laptop!.types(`mesh-node task diff ${id}`, { sees: ['+echo "Hello'] });
      await laptop!.types(`mesh-node task apply ${id}`);
      await laptop!.types('git log --oneline', { sees: [id] });

      story.says(
        'The work tree is never clean. What does not go along is said, and what to type so that it does.',
      );
      await laptop!.does('echo "echo \'Bye, $1!\'" >> greet.sh && echo todo > notes.txt');
      const without = await laptop!.types('mesh-node task run -- true', { sees: [/--include-dirty/] });
      story.scrub(without.out, 'WITHOUT');
      const dirty = await laptop!.types(
        "mesh-node task run --include-dirty --check 'grep -q Farewell greet.sh' --wait -- sed -i s/Bye/Farewell/ greet.sh",
        { sees: [/delivered/] },
      );
      const second = dirty.out.split('\n').at(-1)!;
      story.scrub(second, 'SECOND');
      await laptop!.types('git status --short', { sees: [' M greet.sh', '?? notes.txt'] });
      await laptop!.types(`mesh-node task diff ${second}`, { sees: [/\+echo 'Farewell/] });
      story.says(
        'Applying it would write over what is not committed, so it is refused, and nothing is touched.',
      );
      await laptop!.types(`mesh-node task apply ${second}`, { exit: 2, sees: [/greet\.sh/] });
      await laptop!.types('git status --short', { sees: [' M greet.sh', '?? notes.txt'] });
      await laptop!.types("git add -A && git commit --quiet -m 'What was not committed'");
      await laptop!.types(`mesh-node task apply ${second}`);
      await laptop!.types('git log --oneline -2', { sees: [/Farewell/] });

      story.says('Ctrl-C while it runs ends the waiting, not the work.');
      const screen = laptop!.opens("mesh-node task run --check 'sh -n greet.sh' --wait -- sleep 4");
      await screen.glimpses(/running on worker/);
      screen.answers('\x03');
      await screen.ends(130);
      const [third] = (await laptop!.does('mesh-node task list --json')).out.match(
        /[a-z2-7]{12}(?=","kind)/g,
      )!;
      story.scrub(third!, 'THIRD');
      await laptop!.types(`mesh-node task logs -f ${third}`);
      await laptop!.types(`mesh-node task get ${third}`, { sees: [/branch/] });

      story.says('A machine that only works may not send anything.');
      await greeter(join(worker!.home, 'greeter'));
      worker!.folder = join(worker!.home, 'greeter');
      await worker!.types('mesh-node task run -- true', { exit: 4, sees: [/submit/] });
    }),
  );
}

test.run();
