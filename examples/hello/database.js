import pg from 'pg';

// A preview finds its own database here; it is kept across pushes and dropped when the pull request is closed.
export const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 3 });

/** Counts one more visitor and gives how many there were. */
export async function countVisitor() {
  const { rows } = await database.query('update visitors set number = number + 1 returning number');
  return Number(rows[0].number);
}

/** How many visitors there were. */
export async function readVisitors() {
  const { rows } = await database.query('select number from visitors');
  return Number(rows[0].number);
}
