import { nextStep } from '../domain/failures.ts';

/** Something failed; the message names it, `next` is what the person can do. Exit code 1. */
export class CliError extends Error {
  readonly next: string | undefined;
  readonly exitCode: 1 | 2 = 1;

  constructor(message: string, next?: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'CliError';
    this.next = next;
  }
}

/** The command line itself is wrong: the message names the word and says what is right. Exit code 2. */
export class UsageError extends CliError {
  override readonly exitCode = 2;
  override readonly name = 'UsageError';
}

export interface Explanation {
  message: string;
  next?: string;
  exitCode: number;
}

// gRPC's numbers; importing @grpc/grpc-js for three constants would cost `tekton --help` its speed.
const grpc = {
  cancelled: 1,
  deadlineExceeded: 4,
  notFound: 5,
  failedPrecondition: 9,
  unavailable: 14,
  unauthenticated: 16,
};

/** The worker did not answer a query or an update. */
export const workerSilent = {
  message: 'the worker does not answer',
  next: 'Is `tekton up` (or `tekton worker`) running? Look at its log; `tekton doctor` tells what is missing.',
};

/** Any error in the words a person needs: what is wrong, what to do, and the exit code. Never a stack trace. */
export function explainError(error: unknown): Explanation {
  if (error instanceof CliError) return { message: error.message, next: error.next, exitCode: error.exitCode };
  const chain = causes(error);
  const typed = chain.find((e) => typeof e.type === 'string' && nextStep(e.type as string));
  if (typed) return { message: typed.message, next: nextStep(typed.type as string), exitCode: 1 };
  const names = chain.map((e) => e.name);
  const code = chain.map((e) => e.code).find((c) => typeof c === 'number');
  if (names.includes('WorkflowNotFoundError')) {
    return {
      message: 'there is no such preview or agent any more',
      next: 'See what there is: tekton preview list, tekton agent list.',
      exitCode: 1,
    };
  }
  if (names.includes('WorkflowUpdateRPCTimeoutOrCancelledError') || isSilentWorker(error)) {
    return { ...workerSilent, exitCode: 1 };
  }
  if (names.includes('WorkflowUpdateFailedError') || names.includes('QueryRejectedError')) {
    return { message: `refused: ${chain.at(-1)?.message}`, exitCode: 1 };
  }
  if (names.includes('QueryNotRegisteredError')) {
    return {
      message: 'the workflow does not know this question',
      next: 'Update the worker and the command line to one version.',
      exitCode: 1,
    };
  }
  if (code === grpc.unavailable) {
    return {
      message: `Temporal does not answer (${lastLine(chain)})`,
      next: 'Is `tekton up` running? `tekton doctor` looks.',
      exitCode: 1,
    };
  }
  if (code === grpc.unauthenticated) {
    return {
      message: `Temporal refuses the credentials (${lastLine(chain)})`,
      next: 'Check TEMPORAL_API_KEY and the TLS settings.',
      exitCode: 1,
    };
  }
  if (/(search attribute|column name|no mapping).*(not defined|not found|Tekton)/i.test(lastLine(chain))) {
    return {
      message: `this Temporal namespace is not set up for tekton (${lastLine(chain)})`,
      next: 'Start a worker once: `tekton up` or `tekton worker` creates the search attributes.',
      exitCode: 1,
    };
  }
  // Clients wrap what the server says ("Failed to list workflows"): both are told.
  const messages = new Set([chain[0]?.message, chain.at(-1)?.message].filter(Boolean));
  return { message: [...messages].join(': ') || String(error), exitCode: 1 };
}

/** True when a query or update failed because nobody works on the task queue, so that trying again may help. */
export function isSilentWorker(error: unknown): boolean {
  return causes(error).some(
    (e) =>
      // On a busy machine the call's own limit ends it before the server's answer that nobody polls.
      e.code === grpc.deadlineExceeded ||
      e.code === grpc.cancelled ||
      (e.code === grpc.failedPrecondition && /worker may be down|no poller/i.test(e.message ?? '')) ||
      /no poller seen for task queue/i.test(e.message ?? ''),
  );
}

/** True when Temporal itself can't be reached right now. */
export function isUnavailable(error: unknown): boolean {
  return causes(error).some((e) => e.code === grpc.unavailable);
}

/** True when Temporal has no such workflow. */
export function isNotFound(error: unknown): boolean {
  return causes(error).some((e) => e.name === 'WorkflowNotFoundError' || e.code === grpc.notFound);
}

interface Link {
  name: string;
  message: string;
  code?: unknown;
  type?: unknown;
}

/** The error and its causes, outermost first. */
function causes(error: unknown): Link[] {
  const chain: Link[] = [];
  for (let at = error; at instanceof Error && chain.length < 10; at = at.cause) chain.push(at as unknown as Link);
  return chain;
}

function lastLine(chain: Link[]): string {
  return chain.at(-1)?.message.split('\n')[0] ?? '';
}
