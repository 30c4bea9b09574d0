/** One figure of the benchmark, as `npm run bench -- --json FILE` writes it. */
export interface BenchRow {
  name: string;
  value: number;
  unit: string;
  /** What is aimed at, as a person reads it: `≤ 5 ms`. */
  aim: string;
  /** True when the aim is met, and for figures without an aim. */
  ok: boolean;
}

/** The middle value (of an even number, the upper of the two). */
export function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Rows as a table in plain text. */
export function benchTable(rows: BenchRow[]): string {
  const cells = rows.map(({ name, value, unit, aim, ok }) => [
    ok ? '✓' : '✗',
    name,
    `${round(value)} ${unit}`.trim(),
    aim,
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Three figures are all that a run on a shared machine can tell. */
export function round(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(3));
}
