/** Versions as programs print them: `temporal version 1.9.1 (Server …)`, `v2.11.7 h1:…`, `postgres (PostgreSQL) 15.14 (Debian …)`. */

/** The first dotted number in a program's answer, or undefined. */
export function parseVersion(text: string): string | undefined {
  return /(?<![\d.])v?(\d+(?:\.\d+){1,3})/.exec(text)?.[1];
}

/** Negative when `a` is older than `b`, 0 when equal; a missing part counts as 0 (`14` equals `14.0`). */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
