// Firefox to Chromium through the server and, beside it, connected to each other: node tests/clients/direct.mjs [--seconds 30]
// [--picture 1280x720@20] [--bin target/debug/moonring] [--codec vp8]. Prints once a second what Firefox encodes and why, and what Chromium shows.
// Needs root: everything is in a namespace of its own.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { launch } from './clients/launch.mjs';
import { install } from './clients/page.mjs';
import { createNamespace } from './lib/netns.mjs';
import { ROOT } from './lib/paths.mjs';
import { startServer, TOKEN } from './lib/server.mjs';

const HERE = fileURLToPath(import.meta.url);
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '30' },
    picture: { type: 'string', default: '1280x720@20' },
    bin: { type: 'string', default: process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring') },
    codec: { type: 'string', default: 'vp8' },
    only: { type: 'string' },
  },
});

if (positionals[0] === 'inside') await inside(positionals[1]);
else await outside();

/** Makes the namespace and starts the server, then this program again inside of it. */
async function outside() {
  const namespace = createNamespace();
  const server = await startServer(values.bin, namespace.server);
  try {
    const again = ['netns', 'exec', namespace.name, process.execPath, HERE, ...process.argv.slice(2), 'inside', server.url];
    execFileSync('ip', again, { stdio: 'inherit', env: { ...process.env, SSL_CERT_FILE: server.certificate } });
  } finally {
    await server.stop();
    namespace.remove();
  }
}

async function inside(url) {
  const [, width, height, fps] = /^(\d+)x(\d+)@(\d+)$/.exec(values.picture).map(Number);
  for (const way of values.only ? [values.only] : ['direct', 'server']) {
    const [from, to] = [await open('firefox', url), await open('chromium', url)];
    const options = { width, height, fps, video: values.codec, token: TOKEN };
    const room = (kind) => ({ ...options, url: `${url}/${kind}/${way}` });
    if (way === 'server') {
      await from.page.evaluate((o) => window.peer.publish(o), room('whip'));
      await to.page.evaluate((o) => window.peer.receive(o), room('whep'));
    } else {
      const offer = await from.page.evaluate((o) => window.peer.offerTo(o), options);
      const answer = await to.page.evaluate((sdp) => window.peer.answerTo(sdp), offer);
      await from.page.evaluate((sdp) => window.peer.take(sdp), answer);
    }
    const lines = [];
    for (let second = 1; second <= Number(values.seconds); second++) {
      await sleep(1000);
      const [sent, got] = [await from.page.evaluate(() => window.peer.encoding()), await to.page.evaluate(() => window.peer.decoding())];
      lines.push({ ...sent, ...got });
      console.log(`${way} ${String(second).padStart(3)} s ${JSON.stringify({ ...sent, ...got })}`);
    }
    const heights = lines.map(({ shown }) => shown ?? 0).filter(Boolean);
    console.log(`${way}: shown ${Math.min(...heights)} to ${Math.max(...heights)} lines, at the end ${heights.at(-1)}`);
    for (const { browser } of [from, to]) await browser.close();
  }
}

async function open(which, url) {
  const browser = await launch(which);
  const page = await browser.newPage();
  await page.goto(new URL('/healthz', url).href);
  await page.evaluate(install);
  return { browser, page };
}
