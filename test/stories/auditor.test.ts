// limit: 240 s
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import { greeter, isRoot } from '../net/mesh.ts';
import { Story } from './story.ts';

const title = 'An auditor who receives a receipt by mail';

/** The commands of `docs/audit.md`, one after the other. */
const page = [
  ...readFileSync(join(import.meta.dirname, '../../docs/audit.md'), 'utf8').matchAll(/^```sh\n(.*?)^```$/gms),
]
  .map(([, block]) => block)
  .join('\n');

if (!isRoot) {
  console.log('skipped: the stories make network namespaces and need root');
  test.skip(title);
} else {
  test(title, () =>
    Story.tell('auditor', title, ['office', 'worker', 'auditor'], async (story, office, worker, auditor) => {
      story.says('A mesh did its work, and its result went into a repository.');
      await office!.types('mesh-hub init --name office');
      await office!.types('mesh-hub start --detach');
      const invite = await office!.does('mesh-hub invite');
      await worker!.does(`mesh-node join ${invite.out} --detach`);
      const repository = await greeter(join(office!.home, 'greeter'));
      office!.folder = repository;
      const run = await office!.types(
        "mesh-hub task run --check 'sh test.sh' --wait -- sed -i s/Helo/Hello/ greet.sh",
        { sees: [/verified by/], within: 30_000 },
      );
      const id = run.out.split('\n').at(-1)!;
      story.scrub(id, 'ID');
      await office!.types(`mesh-hub task apply ${id}`);
      await office!.types(`mesh-hub receipt show ${id} --output ../receipt.json`);
      const mesh = JSON.parse((await office!.does('mesh-hub status --json')).out).mesh as string;
      story.scrub(mesh, 'MESH_ID');

      story.says('The worker is shut out afterwards.');
      await office!.types('mesh-hub node revoke worker --reason sold', { sees: ['for good'] });
      await office!.types('mesh-hub ledger export --output ../log.jsonl');

      story.says(
        'The auditor gets two files by mail, may clone the repository, and has asked somebody else for the mesh id. Their machine belongs to no mesh.',
      );
      for (const file of ['receipt.json', 'log.jsonl']) {
        copyFileSync(join(office!.home, file), join(auditor!.home, file));
      }
      story.scrub(repository, 'https://git.example/greeter.git');
      await auditor!.types(`git clone --quiet --no-local ${repository} greeter`);
      await auditor!.types('mesh-node receipt verify receipt.json', {
        exit: 5,
        sees: [/signature good, signer unknown\s*$/],
        show: /signature good/,
      });
      await auditor!.types(`mesh-node receipt verify receipt.json --mesh ${mesh} --repo greeter`, {
        sees: [/\nproved:[^\n]*\s*$/],
      });

      story.says('A file in which somebody improved something:');
      const receipt = readFileSync(join(auditor!.home, 'receipt.json'), 'utf8');
      const forged = receipt.replace(
        /("sig": ")(.)/,
        (_, field, one) => `${field}${one === 'A' ? 'B' : 'A'}`,
      );
      writeFileSync(join(auditor!.home, 'forged.json'), forged);
      await auditor!.types(`mesh-node receipt verify forged.json --mesh ${mesh}`, {
        exit: 5,
        sees: [/not proved:/],
      });

      story.says('The repository carries the receipt too, for whoever lost the mail:');
      await auditor!.types('git -C greeter fetch --quiet origin refs/notes/superfleet:refs/notes/superfleet');
      const commit = (
        await auditor!.does(`git -C greeter log -1 --format=%H --grep "Superfleet-Task: ${id}"`)
      ).out;
      story.scrub(commit, 'COMMIT');
      await auditor!.types(`git -C greeter notes --ref superfleet show ${commit} | cmp - receipt.json`);

      story.says(
        'And without any program of ours, by the page [An audit by hand](audit.md): its commands, saved to a file. The last lines show that the machine was shut out after both signed.',
      );
      writeFileSync(join(auditor!.home, 'audit.sh'), page);
      await auditor!.types(`MESH=${mesh} REPOSITORY=${repository} sh audit.sh`, {
        sees: [
          /^mesh id: /m,
          /Signature Verified Successfully/,
          /the history of HEAD holds it/,
          /revoked by entry/,
        ],
      });
    }),
  );
}

test.run();
