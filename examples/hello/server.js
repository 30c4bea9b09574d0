import { createServer } from 'node:http';
import { countVisitor, database } from './database.js';
import { page } from './page.js';

const server = createServer(async (request, response) => {
  try {
    if (request.url === '/healthz') {
      await database.query('select 1');
      return response.writeHead(204).end();
    }
    if (request.url !== '/') return response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
    const visitors = await countVisitor();
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page(process.env, visitors));
  } catch (error) {
    console.error(error);
    response.writeHead(500, { 'content-type': 'text/plain' }).end('the database does not answer\n');
  }
});

server.listen(Number(process.env.PORT ?? 3000), process.env.HOST, () => console.log('web listens', server.address()));

// Requests in flight are finished, then the process ends: a push replaces this deployment while people use it.
process.on('SIGTERM', () => server.close(() => process.exit(0)));
