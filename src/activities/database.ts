import type { Postgres } from '../host/postgres.ts';
import type { HostActivities } from './contract.ts';

/** `createDatabase` and `dropDatabase`, by the host's PostgreSQL. */
export function databaseActivities({
  postgres,
}: {
  postgres: Postgres;
}): Pick<HostActivities, 'createDatabase' | 'dropDatabase'> {
  return {
    createDatabase: ({ preview }) => postgres.ensureDatabase({ preview }),
    dropDatabase: ({ preview }) => postgres.dropDatabase({ preview }),
  };
}
