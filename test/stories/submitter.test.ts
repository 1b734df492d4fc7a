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
      await laptop!.types(`mesh-node join ${sender.out} --detach`, { within: 20_000 });
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
      await laptop!.types(`mesh-node task apply ${id}`, {});
      await laptop!.types('git log --oneline', { sees: [id] });

      story.says('A machine that only works may not send anything.');
      await greeter(join(worker!.home, 'greeter'));
      worker!.folder = join(worker!.home, 'greeter');
      await worker!.types('mesh-node task run -- true', { exit: 4, sees: [/submit/] });
    }),
  );
}

test.run();
