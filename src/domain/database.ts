/** The database of a preview: its name, and the SQL that makes and unmakes it. Text only; `host/postgres.ts` runs it. */
import { escapeIdentifier, escapeLiteral } from 'pg';
import { shortHash } from './container-name.ts';

/** PostgreSQL cuts longer identifiers, silently (NAMEDATALEN - 1). */
const maxName = 63;

/** Sessions one preview may open, so that none uses up the server's. */
export const connectionLimit = 30;

/**
 * Name of a preview's role and of its database, which are the same so that `sameuser` in `pg_hba.conf` applies: `preview_<slug>`, a
 * long one cut with a hash at its end.
 */
export function databaseName(slug: string): string {
  const name = `preview_${slug}`;
  return name.length <= maxName ? name : `${name.slice(0, maxName - 7)}_${shortHash(slug, 6)}`;
}

/** Whose a role is, and so whose the database that it owns: the comment on the role is written in the role's own transaction. */
export const roleOwnerQuery = `SELECT shobj_description(oid, 'pg_authid') AS owner FROM pg_roles WHERE rolname = $1`;

/** The role that owns a database. */
export const databaseOwnerQuery = `SELECT r.rolname AS owner FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = $1`;

/** The databases and roles of a workflow, half-made ones too. */
export const inventoryQuery = `
SELECT 'database' AS kind, d.datname AS name FROM pg_database d
 WHERE $1 IN (shobj_description(d.datdba, 'pg_authid'), shobj_description(d.oid, 'pg_database'))
UNION ALL
SELECT 'role', rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = $1
ORDER BY 1, 2`;

/**
 * Makes the role, and says whose it is. No role is ever without an owner: statements sent as one text are one
 * transaction.
 *
 * @param verifier the SCRAM verifier of its password, never the password: statements end up in the server's log
 */
export function createRole(name: string, owner: string, verifier: string): string {
  return [
    `CREATE ROLE ${escapeIdentifier(name)} ${roleOptions(verifier)}`,
    `COMMENT ON ROLE ${escapeIdentifier(name)} IS ${escapeLiteral(owner)}`,
  ].join(';\n');
}

/** Makes a role that is there already what `createRole` would have made. */
export function alterRole(name: string, verifier: string): string {
  return `ALTER ROLE ${escapeIdentifier(name)} ${roleOptions(verifier)}`;
}

function roleOptions(verifier: string): string {
  return `LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT ${connectionLimit} PASSWORD ${escapeLiteral(verifier)}`;
}

/** Makes the database, closed until `openDatabase`: a new one lets PUBLIC in. Can't run in a transaction. */
export function createDatabase(name: string): string {
  return `CREATE DATABASE ${escapeIdentifier(name)} OWNER ${escapeIdentifier(name)} ALLOW_CONNECTIONS false`;
}

/** Opens the database to its own role alone. */
export function openDatabase(name: string, owner: string): string {
  const database = escapeIdentifier(name);
  return [
    `REVOKE ALL ON DATABASE ${database} FROM PUBLIC`,
    `COMMENT ON DATABASE ${database} IS ${escapeLiteral(owner)}`,
    `ALTER DATABASE ${database} ALLOW_CONNECTIONS true`,
  ].join(';\n');
}

/** Drops the database with whoever is connected to it. Can't run in a transaction. */
export function dropDatabase(name: string): string {
  return `DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`;
}

/** Drops the role, once its database is gone. */
export function dropRole(name: string): string {
  return `DROP ROLE IF EXISTS ${escapeIdentifier(name)}`;
}

/** The databases that PUBLIC may connect to; no ACL at all means the default, which lets PUBLIC in. */
export const publicDatabasesQuery = `
SELECT datname AS name FROM pg_database
 WHERE EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0 AND privilege_type = 'CONNECT')
 ORDER BY 1`;

/** Shuts the database to all but its owner and those it was granted to by name. */
export function revokePublic(name: string): string {
  return `REVOKE CONNECT ON DATABASE ${escapeIdentifier(name)} FROM PUBLIC`;
}

/** The URL that an app is given. */
export function databaseUrl(input: { database: string; password: string; host: string; port: number }): string {
  const name = encodeURIComponent(input.database);
  const host = input.host.includes(':') ? `[${input.host}]` : input.host;
  return `postgresql://${name}:${encodeURIComponent(input.password)}@${host}:${input.port}/${name}`;
}
