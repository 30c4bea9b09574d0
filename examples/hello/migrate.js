// Runs once for each deployment, while the previous one still serves: only add, never take away.
import { database } from './database.js';

await database.query(`
  create table if not exists visitors (only_row boolean primary key default true check (only_row), number bigint not null);
  insert into visitors (number) values (0) on conflict do nothing;
`);
await database.end();
console.log('the visitors table is there');
