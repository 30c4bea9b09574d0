/** Where a preview stands; shown as the search attribute `TektonPhase`, by the CLI, the comment and the progress page. */
export const phases = {
  queued: 'waiting for a slot or a build place',
  'awaiting-approval': 'from a fork; waits for approval of this exact commit',
  building: 'building the closure',
  starting: 'starting the container',
  live: 'a commit serves; when the newest one failed, the reason is shown',
  updating: 'one commit serves, the next is on its way',
  failed: 'nothing serves; the reason is shown',
  destroying: 'being taken away',
  stuck: 'an undo has failed for 10 minutes; still retried',
  gone: 'nothing is left',
} as const;

export type Phase = keyof typeof phases;
