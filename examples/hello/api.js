import { createServer } from 'node:http';
import { readVisitors } from './database.js';

// Reached as /api: the route of preview-meta.json takes the prefix away.
const server = createServer(async (request, response) => {
  try {
    if (request.url !== '/' && request.url !== '/visitors') return response.writeHead(404).end();
    const { PREVIEW_SHA: sha, PREVIEW_PR: pullRequest, PREVIEW_SLUG: slug } = process.env;
    const body = JSON.stringify({ sha, pullRequest, slug, visitors: await readVisitors() });
    response.writeHead(200, { 'content-type': 'application/json' }).end(`${body}\n`);
  } catch (error) {
    console.error(error);
    response.writeHead(500, { 'content-type': 'application/json' }).end('{"error":"the database does not answer"}\n');
  }
});

server.listen(Number(process.env.PORT ?? 3001), process.env.HOST, () => console.log('api listens', server.address()));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
