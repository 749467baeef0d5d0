/** A process of `run.ts`: takes ids of mutants, answers outcomes. */
import { MUTANTS } from './index.ts';
import { BASELINE, type Job, type JobResult } from './jobs.ts';
import { Workshop } from './workshop.ts';

const workshop = new Workshop();
process.on('exit', () => workshop[Symbol.dispose]());

process.on('message', (job: Job) => {
  if (job.id === undefined) process.exit(0);
  void answer(job.id).then((result) => process.send!(result));
});

async function answer(id: string): Promise<JobResult> {
  try {
    if (id === BASELINE) {
      const failures = await workshop.baseline();
      return { failures: failures.map(({ id: name, seen }) => `${name}: ${seen}`) };
    }
    return { outcome: await workshop.try(MUTANTS.find((mutant) => mutant.id === id)!) };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}
