/**
 * `/etc/preview.env`: `KEY='value'` lines that a POSIX shell, systemd's EnvironmentFile and this parser read alike. A single quote is
 * written `'"'"'`: the shell's usual `'\''` means something else to systemd.
 */

const namePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The file's text, in the order given. Throws for a name no shell takes and for a value with a NUL byte. */
export function formatEnvFile(env: Record<string, string>): string {
  return Object.entries(env)
    .map(([name, value]) => {
      if (!namePattern.test(name)) throw new Error(`'${name}' can't be the name of an environment variable.`);
      if (value.includes('\0')) throw new Error(`The value of ${name} holds a NUL byte, which no environment can.`);
      return `${name}='${value.replaceAll("'", `'"'"'`)}'\n`;
    })
    .join('');
}

/** Reads back what `formatEnvFile` wrote, byte for byte. Throws for anything else. */
export function parseEnvFile(text: string): Record<string, string> {
  const env: Record<string, string> = {};
  let at = 0;
  while (at < text.length) {
    const head = /([A-Za-z_][A-Za-z0-9_]*)=/y;
    head.lastIndex = at;
    const name = head.exec(text)?.[1];
    if (name === undefined) throw new Error(`Not an environment file: no NAME= at offset ${at}.`);
    at = head.lastIndex;
    let value = '';
    while (at < text.length && text[at] !== '\n') {
      const quote = text[at];
      const end = quote === "'" || quote === '"' ? text.indexOf(quote, at + 1) : -1;
      if (end < 0) throw new Error(`Not an environment file: the value of ${name} is not quoted.`);
      value += text.slice(at + 1, end);
      at = end + 1;
    }
    at++;
    env[name] = value;
  }
  return env;
}
