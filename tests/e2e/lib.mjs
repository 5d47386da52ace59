// What the end-to-end tests share: the server process, Chromium, a tab that is in a room, and what its getStats says.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export { sleep };
export const HERE = fileURLToPath(new URL('.', import.meta.url));
export const ROOT = resolve(HERE, '../..');
export const ARTIFACTS = join(ROOT, 'artifacts');
/** The token of this folder's test policy. */
export const TOKEN = 'let-me-in';
const BINARY = process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
/** Long, because CI machines are small; nothing asserts on how long things take. */
const PATIENCE_MS = 30_000;

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // the server's certificate is self-signed
process.removeAllListeners('warning'); // node's warning about the line above
let mediaPorts = 41_000 + (process.pid % 500) * 20;

/** Starts the server; `scripts` is a folder, `flags` are added. Stop it with `stop()`. */
export async function startServer({ scripts = join(HERE, 'scripts'), flags = [], mediaIp = '127.0.0.1' } = {}) {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: run "cargo build", or set MOONRING_BIN`);
  const data = mkdtempSync(join(tmpdir(), 'moonring-e2e-'));
  const [port, admin] = [await freePort(), await freePort()];
  const ports = `${mediaPorts}-${mediaPorts + 9}`;
  mediaPorts += 10;
  const args = ['--listen', `127.0.0.1:${port}`, '--admin-listen', `127.0.0.1:${admin}`, '--media-ip', mediaIp, '--media-ports', ports];
  args.push('--scripts-dir', scripts, '--data-dir', data, '--shards', '1', ...flags);
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += text));
  let stopping = false;
  const exited = new Promise((done) => child.on('exit', done));
  child.on('exit', (code, signal) => {
    if (!stopping) console.error(`THE SERVER ENDED BY ITSELF (${signal ?? code}). The end of its log:\n${log.slice(-4000)}`);
  });
  const server = {
    port,
    url: `https://127.0.0.1:${port}`,
    log: () => log,
    metrics: async () => (await fetch(`http://127.0.0.1:${admin}/metrics`)).text(),
    async stop() {
      stopping = true;
      child.kill('SIGTERM');
      const late = setTimeoutKill(child);
      await exited;
      clearTimeout(late);
      rmSync(data, { recursive: true, force: true });
      if (process.env.MOONRING_E2E_LOG) console.log(log);
    },
  };
  try {
    await until('the server is healthy', async () => {
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}:\n${log}`);
      return (await fetch(`${server.url}/healthz`).catch(() => undefined))?.ok;
    });
  } catch (error) {
    stopping = true;
    child.kill('SIGKILL');
    throw error;
  }
  return server;
}

function setTimeoutKill(child) {
  return setTimeout(() => child.kill('SIGKILL'), 10_000);
}

async function freePort() {
  const probe = createServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

/** Headless Chromium with a fake camera and microphone. */
export function startBrowser() {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
      '--allow-loopback-in-peer-connection',
      '--autoplay-policy=no-user-gesture-required',
    ],
  });
}

/** What the tests of a file share, there from the first test to the last: Chromium, and a server if `options` (those of
 *  `startServer`) are given. `withTabs(room, names, body, query)` opens a tab for each name and closes them all. */
export function shared(options) {
  const all = {
    browser: undefined,
    server: undefined,
    async withTabs(room, names, body, query = {}) {
      const tabs = [];
      try {
        for (const name of names) tabs.push(await openTab(all.browser, all.server, { room, name, ...query }));
        return await body(tabs);
      } finally {
        await Promise.all(tabs.map((tab) => tab.context().close()));
      }
    },
  };
  before(async () => {
    if (options) all.server = await startServer(options);
    all.browser = await startBrowser();
  });
  after(async () => {
    await all.browser?.close();
    await all.server?.stop();
  });
  return all;
}

/** A tab of its own profile that has opened the page and, unless told not to, joined. `query` as app.js documents; `init`
 *  runs in the page before its own scripts. */
export async function openTab(browser, server, query = {}, { wait = true, init } = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1000, height: 720 } });
  if (init) await context.addInitScript(init);
  const tab = await context.newPage();
  tab.on('pageerror', (error) => console.error(`${query.name ?? 'tab'}: ${error}`));
  if (process.env.MOONRING_E2E_LOG) tab.on('console', (line) => console.log(`${query.name}: ${line.text()}`));
  const small = { width: 320, height: 240, fps: 15 };
  const parameters = { autojoin: 1, media: 'test', token: TOKEN, ...small, ...query };
  await tab.goto(`${server.url}/?${new URLSearchParams(parameters)}`);
  if (wait) await inCall(tab);
  return tab;
}

/** Waits until a tab is in the room. */
export async function inCall(tab) {
  try {
    await tab.waitForFunction(() => window.moonring?.client?.joined, undefined, { timeout: PATIENCE_MS });
  } catch (error) {
    throw new Error(`not in the room: ${await tab.textContent('#status')}`, { cause: error });
  }
}

/** Waits until `check` gives something true, and returns it. */
export async function until(what, check, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  let seen;
  while (Date.now() < end) {
    seen = await check();
    if (seen) return seen;
    await sleep(100);
  }
  throw new Error(`waited ${patience} ms in vain until ${what}`);
}

/** What the tab's peer connection reports: `{inbound, outbound, transport}`; inbound streams by track id. */
export function stats(tab) {
  return tab.evaluate(async () => {
    const { client, received } = window.moonring;
    const result = { inbound: {}, outbound: [], transport: undefined };
    if (!client?.peerConnection) return result;
    const all = [...(await client.peerConnection.getStats()).values()];
    result.transport = all.find(({ type }) => type === 'transport');
    result.outbound = all.filter(({ type }) => type === 'outbound-rtp');
    for (const [track, media] of received) {
      const stream = all.find((s) => s.type === 'inbound-rtp' && s.trackIdentifier === media.id);
      if (stream) result.inbound[track] = { ...stream, publisher: client.tracks.get(track)?.client };
    }
    return result;
  });
}

/** Waits until the tab decodes `videos` videos and hears `audios` audios, each of them advancing from now on. */
export async function flows(tab, { videos, audios }) {
  const progress = (s) => (s.kind === 'video' ? (s.framesDecoded ?? 0) : (s.packetsReceived ?? 0));
  const first = (await stats(tab)).inbound;
  let last;
  try {
    await until('media flows', async () => {
      last = (await stats(tab)).inbound;
      const moving = Object.entries(last).filter(([id, s]) => progress(s) >= (first[id] ? progress(first[id]) : 0) + 5);
      const count = (kind) => moving.filter(([, s]) => s.kind === kind).length;
      return count('video') >= videos && count('audio') >= audios;
    });
  } catch (error) {
    const seen = Object.values(last).map((s) => `${s.kind} ${progress(s)}`);
    throw new Error(`wanted ${videos} videos and ${audios} audios to advance, have: ${seen.join(', ')}`, { cause: error });
  }
  return last;
}

/** Keeps a picture of the tab for the artefacts. */
export async function keepScreenshot(tab, name) {
  mkdirSync(ARTIFACTS, { recursive: true });
  await tab.screenshot({ path: join(ARTIFACTS, `${name}.png`) });
}

/** A line in the test's output that reports a measured figure. */
export function report(text) {
  console.log(`# measured: ${text}`);
}
