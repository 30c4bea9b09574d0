/** A line of a Procfile. */
export interface ProcfileEntry {
  name: string;
  /** The repository's own shell command; run through `/bin/sh -c`, as a Procfile means it. */
  command: string;
}

/** A Procfile that can't be read; the message names the line. */
export class ProcfileError extends Error {
  override readonly name = 'ProcfileError';
}

const linePattern = /^([A-Za-z0-9_][A-Za-z0-9_-]{0,62})\s*:\s*(.*)$/;

/**
 * Parses a Procfile: `name: command` a line; blank lines and lines that begin with `#` are passed over. Throws ProcfileError for any
 * other line, an empty command and a name given twice.
 */
export function parseProcfile(text: string): ProcfileEntry[] {
  const entries: ProcfileEntry[] = [];
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/);
  lines.forEach((raw, index) => {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    const where = `Procfile, line ${index + 1}`;
    const match = linePattern.exec(line);
    if (!match) throw new ProcfileError(`${where}: '${line.slice(0, 60)}' is not of the form 'name: command'.`);
    const [, name = '', command = ''] = match;
    if (command === '') throw new ProcfileError(`${where}: '${name}' has no command.`);
    if (command.includes('\0')) throw new ProcfileError(`${where}: the command of '${name}' holds a NUL byte.`);
    if (entries.some((entry) => entry.name === name)) throw new ProcfileError(`${where}: '${name}' is there twice.`);
    entries.push({ name, command });
  });
  return entries;
}

/** These run once per deployment, in this order; every other line is a service. */
export const onceNames = ['setup', 'release'] as const;

/** True for a line that is supervised rather than run once. */
export function isService(entry: ProcfileEntry): boolean {
  return !(onceNames as readonly string[]).includes(entry.name);
}
