/** Tells the progress page what the worker does for a preview, so that a visitor sees the steps as they happen. */

import type { Phase } from '../domain/phase.ts';
import type { PreviewRef } from '../domain/preview.ts';
import type { Progress } from '../host/progress.ts';
import type { StepObserver } from './interceptors.ts';

/** The steps a visitor is shown, in plain words; others are none of a visitor's business. */
const shown: Record<string, { title: string; phase: Phase }> = {
  buildClosure: { title: 'build', phase: 'building' },
  allocateSlot: { title: 'find a place', phase: 'starting' },
  createContainer: { title: 'create the container', phase: 'starting' },
  createDatabase: { title: 'create the database', phase: 'starting' },
  writeEnvironment: { title: 'put the source and its settings in', phase: 'starting' },
  startContainer: { title: 'start the container', phase: 'starting' },
  runSetup: { title: 'set up', phase: 'starting' },
  startServices: { title: 'start the app', phase: 'starting' },
  probeContainer: { title: 'wait for the app to answer', phase: 'starting' },
};

/** The observer never fails an activity, and is never waited for: a page is worth less than a step. */
export function progressObserver(progress: Progress): StepObserver {
  const last = new Map<string, Promise<void>>();
  const inOrder = (label: string, work: () => Promise<void>) => {
    const next = (last.get(label) ?? Promise.resolve()).then(work).catch(() => undefined);
    last.set(label, next);
    void next.then(() => {
      if (last.get(label) === next) last.delete(label);
    });
  };
  return {
    started(activity, arg) {
      const about = aboutPreview(activity, arg);
      if (!about) return;
      const { label, sha, title, phase } = about;
      inOrder(label, async () => {
        // A page that has been removed stays so: the preview is live, or on its way out.
        await progress.phase({ label, phase, sha }, { existing: true });
        await progress.step({ label, name: activity, title, state: 'running', at: new Date().toISOString() });
      });
    },
    ended(activity, arg, state, ms) {
      const about = aboutPreview(activity, arg);
      if (!about) return;
      const { label, title } = about;
      const at = new Date(Date.now() - ms).toISOString();
      inOrder(label, () => progress.step({ label, name: activity, title, state, at, ms }));
    },
  };
}

function aboutPreview(activity: string, arg: unknown) {
  const { deployment } = (arg ?? {}) as { deployment?: { preview: PreviewRef; sha: string } };
  const step = shown[activity];
  if (!step || !deployment) return undefined;
  return { label: deployment.preview.slug, sha: deployment.sha, ...step };
}
