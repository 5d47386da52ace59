#!/usr/bin/env node
// An encoder that dies without a word and is started again, as an operator's supervisor does, and how long the pictures
// of its WHEP viewers stand still meanwhile: node restart.mjs [viewer]... [--encoder NAME] [--times N] (README.md)
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { CLIENTS } from './clients/index.mjs';
import { install, progress } from './lib/install.mjs';
import { createNamespace } from './lib/netns.mjs';
import { ARTIFACTS, ROOT } from './lib/paths.mjs';
import { Peer } from './lib/peer.mjs';
import { startServer, TOKEN } from './lib/server.mjs';
import { PICTURE, sources } from './lib/sources.mjs';

const START_MS = 90_000;
/** Pictures have to flow for so long before the encoder dies, and after it is back. */
const STEADY_MS = 4_000;
/** An encoder that is not seen again after this long is a failure. */
const PATIENCE_MS = 60_000;
const LOOK_MS = 20;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bin: { type: 'string', default: process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring') },
    encoder: { type: 'string', default: 'ffmpeg' },
    times: { type: 'string', default: '3' },
  },
});

function client(name) {
  const found = CLIENTS.find((one) => one.name === name);
  if (!found) throw new Error(`there is no client "${name}"; there are: ${CLIENTS.map((one) => one.name).join(', ')}`);
  return found;
}

/** Notes when a viewer's count of decoded pictures last grew, and the longest time that it did not. */
function watch(viewer) {
  const seen = { count: viewer.counts.video, at: Date.now(), longest: 0 };
  const look = () => {
    const now = Date.now();
    seen.longest = Math.max(seen.longest, now - seen.at);
    if (viewer.counts.video > seen.count) Object.assign(seen, { count: viewer.counts.video, at: now });
  };
  const timer = setInterval(look, LOOK_MS);
  return { seen, stop: () => clearInterval(timer) };
}

async function main() {
  const encoder = client(options.encoder);
  const viewers = (positionals.length > 0 ? positionals : ['chromium', 'aiortc']).map(client);
  const video = encoder.publish.find((codec) => viewers.every((viewer) => viewer.receive.includes(codec)));
  if (!video) throw new Error(`${encoder.name} publishes no codec that all the viewers receive`);
  install([encoder, ...viewers]);
  mkdirSync(ARTIFACTS, { recursive: true });
  const namespace = createNamespace();
  const scratch = mkdtempSync(join(tmpdir(), 'moonring-restart-'));
  let server;
  const peers = [];
  try {
    server = await startServer(options.bin, namespace.server);
    const env = { NODE_EXTRA_CA_CERTS: server.certificate, SSL_CERT_FILE: server.certificate, TMPDIR: scratch };
    const source = encoder.raw ? await sources(video) : undefined; // without codecs it sends what is in files
    const start = (one, direction) => {
      const url = `${server.url}/${direction === 'publish' ? 'whip' : 'whep'}/restart`;
      const settings = { token: TOKEN, video, audio: false, ...PICTURE, direction, url, source };
      const peer = new Peer(one.name, one.command, settings, { namespace: namespace.name, env });
      peers.push(peer);
      return peer;
    };
    let running = start(encoder, 'publish');
    await running.until('connected', () => running.connected, START_MS);
    const watching = [];
    for (const viewer of viewers) {
      const peer = start(viewer, 'receive');
      await peer.until('decodes its first pictures', () => running.check() ?? peer.counts.video > 0, START_MS);
      watching.push(peer);
    }
    const rows = [];
    for (let n = 0; n < Number(options.times); n++) {
      await sleep(STEADY_MS);
      const watches = watching.map(watch);
      process.kill(-running.child.pid, 'SIGKILL');
      const died = Date.now();
      await running.exited;
      running = start(encoder, 'publish');
      await running.until('publishes again', () => running.connected, START_MS);
      const back = Date.now() - died;
      const counts = watching.map((peer) => peer.counts.video);
      for (const [at, peer] of watching.entries()) {
        const sees = () => running.check() ?? peer.counts.video > counts[at] + PICTURE.fps;
        await peer.until('sees the encoder again', sees, PATIENCE_MS);
      }
      watches.forEach(({ stop }) => stop());
      const gaps = watches.map(({ seen }) => seen.longest);
      rows.push({ back, gaps });
      const words = watching.map((peer, at) => `${peer.label} ${gaps[at]} ms`).join(', ');
      progress(`restart ${n + 1}: ${encoder.name} publishes again after ${back} ms; longest gap: ${words}`);
    }
    console.log(`\nThe longest gap of each viewer, over all restarts (reports come every 100 ms)`);
    for (const [at, peer] of watching.entries()) console.log(`${peer.label}: ${Math.max(...rows.map(({ gaps }) => gaps[at]))} ms`);
    return 0;
  } catch (error) {
    for (const peer of peers) console.error(`-- ${peer.label}\n${peer.log.slice(-10).join('\n')}`);
    throw error;
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
    await server?.stop(join(ARTIFACTS, 'clients-restart-server.log'));
    namespace.remove();
    rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}

process.exit(
  await main().catch((error) => {
    console.error(`\n${error.message}`);
    return 1;
  }),
);
