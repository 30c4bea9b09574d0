/** How far a fetch is, for a person who waits. */
export interface FetchProgress {
  /** What is being done: `caddy 2.11.7: official release`. */
  what: string;
  /** Bytes so far. */
  received?: number;
  /** Bytes in all, where known. */
  total?: number;
  /** The last word on this step. */
  done?: boolean;
}

export type ReportProgress = (progress: FetchProgress) => void;

/** One line for a person: `caddy 2.11.7: official release  12.1 of 16.4 MB (74 %)`. */
export function progressText({ what, received, total }: FetchProgress): string {
  if (received === undefined) return what;
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  if (!total) return `${what}  ${mb(received)} MB`;
  return `${what}  ${mb(received)} of ${mb(total)} MB (${Math.floor((100 * received) / total)} %)`;
}

/**
 * Reports to stderr: on a terminal one line that is rewritten, otherwise a plain line when a step begins and when it ends.
 */
export function stderrProgress(stream: NodeJS.WriteStream = process.stderr): ReportProgress {
  let shown = '';
  let last = 0;
  return (progress) => {
    const text = progressText(progress);
    if (!stream.isTTY) {
      if (progress.what !== shown || progress.done) stream.write(`${text}\n`);
      shown = progress.what;
      return;
    }
    const now = Date.now();
    if (!progress.done && progress.what === shown && now - last < 100) return;
    last = now;
    if (shown && progress.what !== shown) stream.write('\n');
    shown = progress.done ? '' : progress.what;
    stream.write(`\r\x1b[2K${text}${progress.done ? '\n' : ''}`);
  };
}
