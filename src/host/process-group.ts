/** A command in its own process group, so that stopping it stops its whole tree. */
import { execa, type Options } from 'execa';

export interface GroupResult {
  exitCode: number | undefined;
  signal: string | undefined;
  stdout: string;
  stderr: string;
}

/**
 * Runs argv to its end and gives what it wrote; a failing exit code is a result, not an error. When `signal` is aborted the whole
 * group is killed first, then the signal's reason is thrown. (execa's own `cancelSignal` kills only the direct child, and a
 * grandchild that holds the pipe then keeps the call waiting.)
 */
export async function runGroup(
  argv: readonly [string, ...string[]],
  options: { cwd?: string; env: Record<string, string>; signal?: AbortSignal; onStderrLine?: (line: string) => void },
): Promise<GroupResult> {
  const { signal } = options;
  signal?.throwIfAborted();
  const [file, ...args] = argv;
  const execaOptions = {
    cwd: options.cwd,
    env: options.env,
    extendEnv: false,
    detached: true,
    // A detached child outlives a normal exit unless told so; execa's clean-up reaches only attached ones.
    reject: false,
    stdin: 'ignore',
    maxBuffer: 16 * 1024 * 1024,
  } as const satisfies Options;
  const child = execa(file, args, execaOptions);
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Ended in between.
    }
  };
  signal?.addEventListener('abort', kill, { once: true });
  if (options.onStderrLine) {
    const onLine = options.onStderrLine;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      const line = text
        .trimEnd()
        .split(/[\r\n]/)
        .at(-1);
      if (line) onLine(line);
    });
  }
  try {
    const result = await child;
    signal?.throwIfAborted();
    if (result.exitCode === undefined && result.signal === undefined) {
      throw new Error(`${file} could not be run: ${result.shortMessage ?? 'unknown reason'}`, { cause: result.cause });
    }
    return { exitCode: result.exitCode, signal: result.signal, stdout: result.stdout, stderr: result.stderr };
  } finally {
    signal?.removeEventListener('abort', kill);
  }
}
