import { defineConfig } from 'vitest/config';

/** What takes longer than a test should: killing things, and waiting for everything to come back (`npm run test:faults`). */
export default defineConfig({
  test: {
    name: 'faults',
    include: ['test/faults/**/*.test.ts'],
    testTimeout: 240_000,
    hookTimeout: 180_000,
    maxWorkers: 1,
  },
});
