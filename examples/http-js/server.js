// Answers HTTP requests, as service workers and Node's fetch do.

import { getEnvironment } from 'wasi:cli/environment@0.2.10';

addEventListener('fetch', event => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  console.log(`serving ${pathname}`);
  switch (pathname) {
    case '/':
      return new Response('hello from JavaScript\n');
    case '/env':
      return new Response(environment());
    case '/echo':
      return new Response(request.body);
    default:
      return new Response('not found\n', { status: 404 });
  }
}

function environment() {
  const lines = getEnvironment().map(([name, value]) => `${name}=${value}\n`);
  return lines.sort().join('');
}
