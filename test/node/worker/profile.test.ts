import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { profileOf } from '../../../node/worker/profile.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { type CodeSpecInput, codeSpec } from '../../../protocol/task.ts';

const profile = (code: Partial<CodeSpecInput['code']>, contextTokens = 32_768) =>
  profileOf(codeSpec.parse({ kind: 'code', code: { goal: 'mend it', ...code } }), contextTokens);

test('routine work takes short instructions and short answers, complex work a plan and long ones', () => {
  assert.equal(profile({}), { style: 'full', plans: false, answerTokens: 8_192 });
  for (const tag of ['docs', 'formatting', 'testing', 'automated', 'review']) {
    assert.equal(profile({ tags: [tag] }), { style: 'compact', plans: false, answerTokens: 4_096 }, tag);
  }
  const complex = { style: 'full', plans: true, answerTokens: 16_384 };
  assert.equal(profile({ tags: ['complex'] }, 131_072), complex);
  assert.equal(profile({ tags: ['docs', 'complex'] }, 131_072), complex, 'what is complex is not routine');
  for (const tag of ['constructor', 'x', 'documentation'])
    assert.equal(profile({ tags: [tag] }), profile({}));
});

test('little context and one answer take short instructions, and an answer no more than a quarter of the context', () => {
  assert.equal(profile({}, 8_192), { style: 'compact', plans: false, answerTokens: 2_048 });
  assert.equal(profile({ mode: 'single' }), { style: 'compact', plans: false, answerTokens: 8_192 });
  assert.equal(
    profile({ mode: 'single', tags: ['complex'] }).plans,
    false,
    'one answer has no room for a plan',
  );
  assert.equal(profile({ tags: ['complex'] }).answerTokens, 8_192);
});

test('the texts: a plan is asked for where one is made, and compact is a quarter of full at most', async () => {
  const prompts = new Prompts(null);
  const text = async (style: 'full' | 'compact', plans: boolean) =>
    (await prompts.instructions({ style, plans }, 'benjamin')).text;
  const [full, compact, planned] = [
    await text('full', false),
    await text('compact', false),
    await text('full', true),
  ];
  assert.ok(planned.startsWith(full) && /plan/.test(planned.slice(full.length)));
  assert.ok(compact.length * 3 < full.length, `${compact.length} against ${full.length}`);
});

test.run();
