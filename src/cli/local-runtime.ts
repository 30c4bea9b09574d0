import type { Runtime } from '../runtime/runtime.ts';
import type { Machine } from './connection.ts';

export async function withLocalRuntime<T>(_machine: Machine, _work: (runtime: Runtime) => Promise<T>): Promise<T> {
  throw new Error('not yet');
}
