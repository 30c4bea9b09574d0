/** A command that is run once per deployment, to its end. */
import { failure } from '../../activities/failure.ts';
import type { Step } from '../runtime.ts';
import { note, tellingLines } from './logs.ts';
import type { Proc } from './proc.ts';
import { describeEnd, runToEnd, type SpawnSpec } from './spawn.ts';

/** How long its processes may take to end by themselves when the step is cancelled, in ms. */
const graceMs = 1000;

/**
 * Runs a setup command. Throws SetupFailed with its last lines when it ends with an error.
 *
 * @param find gives all that it started
 */
export async function runOnce(name: string, spec: SpawnSpec, find: () => Proc[], step: Step): Promise<void> {
  step.progress(`running ${name}`);
  const end = await runToEnd(spec, {
    find,
    graceMs,
    signal: step.signal,
    progress: (line) => step.progress(`${name}: ${line.slice(0, 160)}`),
  });
  if (end.code === 0) return;
  await note(spec.logPath, `${name} ended with ${describeEnd(end)}`);
  const lines = tellingLines(end.output, 12);
  throw failure('SetupFailed', `'${name}' ended with ${describeEnd(end)}:\n${lines.join('\n')}`, {
    details: [{ lines, logPath: spec.logPath }],
  });
}
