// Works with a server by Google's own SDK, and prints as JSON what the SDK made of its answers.
// Arguments: the SDK's module, the base URL, the key.
import { pathToFileURL } from 'node:url';

const [module, baseUrl, key] = process.argv.slice(2);
const { jules } = await import(pathToFileURL(module));
const config = { pollingIntervalMs: 1, rateLimitRetry: { baseDelayMs: 1 } };
const client = jules.with({ apiKey: key, baseUrl, config });
const source = { github: 'acme/demo', baseBranch: 'main' };
const seen = {};

seen.sources = [];
for await (const one of client.sources()) seen.sources.push(one);

const prompt = 'make it [[jules: pr new=a.txt text=one line]]';
const run = await client.run({ prompt, source, autoPr: false });
const outcome = await run.result();
seen.completed = {
  id: outcome.sessionId,
  state: outcome.state,
  pull_request: outcome.pullRequest?.url,
  patch: outcome.changeSet()?.gitPatch.unidiffPatch,
  files: outcome.generatedFiles().all().map((file) => file.path),
};
seen.activities = [];
for await (const activity of run.stream()) {
  seen.activities.push({ type: activity.type, message: activity.message });
  if (activity.type === 'sessionCompleted') break;
}

const info = await client.session(run.id).info();
seen.info = { state: info.state, url: info.url, prompt: info.prompt };

const why = async (promise) => {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return error.constructor.name;
  }
};
const failing = await client.session({ prompt: '[[jules: end=failed]]', source, requireApproval: false });
seen.failed = (await failing.result().catch((error) => error)).state ?? 'thrown';
const patient = await client.run({ prompt: '[[jules: status=429 at=look times=2]]', source });
seen.patient = (await patient.result()).state;
seen.wrong_key = await why(jules.with({ apiKey: 'wrong', baseUrl }).run({ prompt, source }));
seen.wrong_source = await why(client.run({ prompt, source: { github: 'acme/other', baseBranch: 'main' } }));
seen.wrong_branch = await why(client.run({ prompt, source: { ...source, baseBranch: 'no-such' } }));
console.log(JSON.stringify(seen));
process.exit(0);
