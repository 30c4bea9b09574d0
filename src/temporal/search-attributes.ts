import { type Connection, isGrpcServiceError } from '@temporalio/client';
import proto from '@temporalio/proto';
import { searchAttributes } from '../domain/search-attributes.ts';

const wanted = Object.values(searchAttributes);
type Wanted = (typeof wanted)[number];

/** gRPC's names for the answers told apart below. */
const status = {
  invalidArgument: 3,
  alreadyExists: 6,
  permissionDenied: 7,
  unimplemented: 12,
  unauthenticated: 16,
} as const;

/**
 * Creates the search attributes that the namespace lacks. Safe to call again and by several services at once.
 *
 * @throws Error with the commands to run when this server lets only an operator create them (Temporal Cloud), or when one exists
 *   with another type
 */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const missing = await missingSearchAttributes(connection, namespace);
  if (missing.length === 0) return;
  try {
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map((key) => [key.name, indexedType(key)])),
    });
  } catch (error) {
    if (isRefused(error)) throw new Error(createThemByHand(namespace, missing), { cause: error });
    // Another service was quicker, as far as these exist now.
    if (!isGrpcServiceError(error) || error.code !== status.alreadyExists) throw error;
    const still = await missingSearchAttributes(connection, namespace);
    if (still.length > 0) throw error;
  }
}

/**
 * The search attributes that the namespace lacks.
 *
 * @throws Error when one exists with another type
 */
export async function missingSearchAttributes(connection: Connection, namespace: string): Promise<Wanted[]> {
  let present: Record<string, unknown>;
  try {
    present = (await connection.operatorService.listSearchAttributes({ namespace })).customAttributes ?? {};
  } catch (error) {
    if (isRefused(error)) return missingByQuery(connection, namespace);
    throw error;
  }
  const wrong = wanted.filter((key) => present[key.name] !== undefined && present[key.name] !== indexedType(key));
  if (wrong.length > 0) {
    const names = wrong.map((key) => `${key.name} (wanted: ${typeName(key)})`).join(', ');
    throw new Error(
      `Temporal's namespace "${namespace}" has search attributes of another type: ${names}. Remove them.`,
    );
  }
  return wanted.filter((key) => present[key.name] === undefined);
}

/** Where the operator's service is closed to us: a query that names an attribute which is not there is refused. */
async function missingByQuery(connection: Connection, namespace: string): Promise<Wanted[]> {
  const known = await Promise.all(
    wanted.map(async (key) => {
      const query = `${key.name} = ${key.type === 'INT' ? '0' : "''"}`;
      try {
        await connection.workflowService.countWorkflowExecutions({ namespace, query });
        return true;
      } catch (error) {
        if (isGrpcServiceError(error) && error.code === status.invalidArgument) return false;
        throw error;
      }
    }),
  );
  return wanted.filter((_, n) => !known[n]);
}

/** What an operator is told where the services may not create search attributes. */
export function createThemByHand(namespace: string, missing: readonly Wanted[]): string {
  const self = missing.map((key) => `--name ${key.name} --type ${typeName(key)}`).join(' ');
  const cloud = missing.map((key) => `--sa "${key.name}=${typeName(key)}"`).join(' ');
  return [
    `Temporal does not let this service create search attributes in the namespace "${namespace}". Create them once:`,
    `  temporal operator search-attribute create --namespace ${namespace} ${self}`,
    'or, on Temporal Cloud:',
    `  tcld namespace search-attributes add --namespace ${namespace} ${cloud}`,
  ].join('\n');
}

function indexedType(key: Wanted) {
  return key.type === 'INT'
    ? proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_INT
    : proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;
}

function typeName(key: Wanted): string {
  return key.type === 'INT' ? 'Int' : 'Keyword';
}

function isRefused(error: unknown): boolean {
  const refusals: number[] = [status.permissionDenied, status.unimplemented, status.unauthenticated];
  return isGrpcServiceError(error) && refusals.includes(error.code);
}
