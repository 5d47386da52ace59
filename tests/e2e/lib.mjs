// @ts-check
// What the end-to-end tests share: the server process, Chromium, a tab that is in a room, and what its getStats says.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
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
export const BINARY = process.env.MOONRING_BIN ?? join(ROOT, 'target/debug/moonring');
export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
/** `room_spread` of every server, over two shards; empty: one shard. */
const SPREAD = process.env.MOONRING_SPREAD ?? '';
/** Long, because CI machines are small; nothing asserts on how long things take. */
const PATIENCE_MS = Number(process.env.MOONRING_E2E_PATIENCE_S ?? 30) * 1000;

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; // the server's certificate is self-signed
process.removeAllListeners('warning'); // node's warning about the line above
let mediaPorts = await ownPorts();

/** @typedef {Awaited<ReturnType<typeof startServer>>} Server */
/** @typedef {import('playwright-core').Page} Tab */
/** @typedef {import('playwright-core').Browser} Browser */
/** `flags` may depend on the address. @typedef {{scripts?: string, flags?: string[] | ((url: string) => string[]), mediaIp?: string}} ServerOptions */

/** Starts the server; `scripts` is a folder, `flags` are added. Stop it with `stop()`. @param {ServerOptions} [options] */
export async function startServer({ scripts = join(HERE, 'scripts'), flags: more = [], mediaIp = '127.0.0.1' } = {}) {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: run "cargo build", or set MOONRING_BIN`);
  const data = mkdtempSync(join(tmpdir(), 'moonring-e2e-'));
  const [port, admin] = [await freePort(), await freePort()];
  const ports = `${mediaPorts}-${mediaPorts + 9}`;
  mediaPorts += 10;
  const args = ['--listen', `127.0.0.1:${port}`, '--admin-listen', `127.0.0.1:${admin}`, '--media-ip', mediaIp, '--media-ports', ports];
  const spread = SPREAD ? ['--shards', '2', '--room-spread', SPREAD] : ['--shards', '1'];
  const url = `https://127.0.0.1:${port}`;
  const flags = typeof more === 'function' ? more(url) : more;
  const own = flags.includes('--shards') ? [] : spread;
  args.push('--scripts-dir', scripts, '--data-dir', data, ...own, ...flags);
  let run = await launch(args, url);
  return {
    port,
    url,
    /** Where the operators' pages are. */
    admin: `http://127.0.0.1:${admin}`,
    log: () => run.log(),
    metrics: async () => (await fetch(`http://127.0.0.1:${admin}/metrics`)).text(),
    /** Ends it without a word to anybody (SIGKILL), or as an operator does (SIGTERM). @param {'SIGKILL'|'SIGTERM'} signal */
    end: (signal) => run.end(signal),
    /** Starts it again, at the same place. */
    async again() {
      run = await launch(args, url);
    },
    /** Another process with the same arguments takes over; the exit code of the one before. Needs `--take-over`. */
    async replace() {
      const before = run;
      before.expectEnd();
      const next = await launch(args, url);
      // The one before answers as well, and goes on when the new one fails.
      const failed = next.exited.then((code) => ({ failed: code }));
      const ended = await Promise.race([before.exited.then((code) => ({ code })), failed]);
      if ('failed' in ended) throw new Error(`the new process ended with ${ended.failed}:\n${next.log()}`);
      run = next;
      return ended.code;
    },
    /** A process beside it with the same arguments, of which nothing is expected. @param {string[]} [more] */
    beside: (more = []) => spawn(BINARY, [...args, ...more], { stdio: ['ignore', 'ignore', 'pipe'] }),
    async stop() {
      await run.end('SIGTERM');
      rmSync(data, { recursive: true, force: true });
      if (process.env.MOONRING_E2E_LOG) console.log(run.log());
    },
  };
}

/** Runs the binary until it is healthy. @param {string[]} args @param {string} url */
async function launch(args, url) {
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += text));
  let stopping = false;
  /** @type {Promise<number|string|null>} */
  const exited = new Promise((done) => child.on('exit', (code, signal) => done(signal ?? code)));
  child.on('exit', (code, signal) => {
    if (!stopping) console.error(`THE SERVER ENDED BY ITSELF (${signal ?? code}). The end of its log:\n${log.slice(-4000)}`);
  });
  const run = {
    log: () => log,
    /** Its exit code, or the signal that ended it. */
    exited,
    expectEnd() {
      stopping = true;
    },
    /** @param {'SIGKILL'|'SIGTERM'} signal */
    async end(signal) {
      stopping = true;
      child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await exited;
      clearTimeout(late);
    },
  };
  try {
    await until('the server is healthy', async () => {
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}:\n${log}`);
      return (await fetch(`${url}/healthz`).catch(() => undefined))?.ok;
    });
  } catch (error) {
    await run.end('SIGKILL');
    throw error;
  }
  return run;
}

/** A TCP proxy to a server on this machine: what clients see in its place, and what can be cut. @param {number} port */
export async function startProxy(port) {
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  let isOpen = true;
  const proxy = createServer((from) => {
    if (!isOpen) return void from.destroy();
    const to = connect(port, '127.0.0.1');
    for (const [one, other] of [[from, to], [to, from]]) {
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((done) => proxy.listen(0, '127.0.0.1', () => done(undefined)));
  const { port: own } = /** @type {import('node:net').AddressInfo} */ (proxy.address());
  return {
    url: `https://127.0.0.1:${own}`,
    /** Cuts every connection, and lets new ones in or not. @param {{open: boolean}} then */
    cut(then) {
      isOpen = then.open;
      for (const socket of sockets) socket.resetAndDestroy();
    },
    /** Lets everybody in again. */
    open() {
      isOpen = true;
    },
    stop() {
      this.cut({ open: false });
      proxy.close();
    },
  };
}

/** The first of 99 ports for media that no other test file takes at the same time: who listens at the one before has them. */
async function ownPorts() {
  for (let n = 0; n < 100; n++) {
    const first = 21_000 + ((process.pid + n) % 100) * 100;
    const holder = createServer().unref();
    const isOwn = await new Promise((done) => holder.once('error', () => done(false)).listen(first, '127.0.0.1', () => done(true)));
    if (isOwn) return first + 1;
  }
  throw new Error('all ports for media are taken: are other tests running?');
}

export async function freePort() {
  const probe = createServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', () => done(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
  await new Promise((done) => probe.close(done));
  return port;
}

/** Headless Chromium with a fake camera and microphone. `executable` may be a wrapper that puts it somewhere else.
 *  @param {string} [executable] @param {string[]} [disabled] features to do without */
export function startBrowser(executable = CHROMIUM, disabled = []) {
  const features = ['LocalNetworkAccessChecks', 'LocalNetworkAccessChecksWebSockets', ...disabled]; // for a page from disk
  return chromium.launch({
    executablePath: executable,
    args: [
      '--no-sandbox',
      `--disable-features=${features.join()}`,
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

/** What the tests of a file share, there from the first test to the last: Chromium, and a server if `options` are given.
 *  `withTabs(room, names, body, query)` opens a tab for each name and closes them all. @param {ServerOptions} [options] */
export function shared(options) {
  /** @type {Browser | undefined} */ let browser;
  /** @type {Server | undefined} */ let server;
  before(async () => {
    if (options) server = await startServer(options);
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });
  const all = {
    get browser() {
      return /** @type {Browser} */ (browser);
    },
    get server() {
      return /** @type {Server} */ (server);
    },
    /** @template T @param {string} room @param {string[]} names @param {(tabs: Tab[]) => Promise<T>} body @param {Query} [query] */
    async withTabs(room, names, body, query = {}) {
      /** @type {Tab[]} */ const tabs = [];
      try {
        for (const name of names) tabs.push(await openTab(all.browser, all.server, { room, name, ...query }));
        return await body(tabs);
      } finally {
        await Promise.all(tabs.map((tab) => tab.context().close()));
      }
    },
  };
  return all;
}

/** As app.js documents. @typedef {Record<string, string | number>} Query */

/** A tab of its own profile that has opened the page and, unless told not to, joined. `init` runs in the page before its own
 *  scripts. @param {Browser} browser @param {{url: string}} server @param {Query} [query]
 *  @param {{wait?: boolean, init?: () => void, context?: import('playwright-core').BrowserContextOptions}} [options] */
export async function openTab(browser, server, query = {}, { wait = true, init, context: own } = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1000, height: 720 }, ...own });
  if (init) await context.addInitScript(init);
  if (process.env.MOONRING_WEB) await serveFromDisk(context, process.env.MOONRING_WEB);
  context.setDefaultTimeout(PATIENCE_MS);
  const tab = await context.newPage();
  tab.on('pageerror', (error) => console.error(`${query.name ?? 'tab'}: ${error}`));
  if (process.env.MOONRING_E2E_LOG) tab.on('console', (line) => console.log(`${query.name}: ${line.text()}`));
  const small = { width: 320, height: 240, fps: 15 };
  const parameters = Object.entries({ autojoin: 1, media: 'test', token: TOKEN, ...small, ...query });
  await tab.goto(`${server.url}/?${new URLSearchParams(parameters.map(([name, value]) => [name, String(value)]))}`);
  if (wait) await inCall(tab);
  return tab;
}

/** In the page: what a network without UDP comes to is an answer without the candidates for it. */
export function withoutUdp() {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = async function (/** @type {any} */ description) {
    const sdp = description.sdp.replaceAll(/^a=candidate:\S+ \d+ udp .*\r\n/gm, '');
    await Reflect.apply(setRemoteDescription, this, [{ type: description.type, sdp }]);
  };
}

/** The page from a folder instead of the binary, so that it can be changed without another build.
 *  @param {import('playwright-core').BrowserContext} context @param {string} folder */
async function serveFromDisk(context, folder) {
  await context.route(/^https?:\/\/[^/]+\/(?:[\w.]+\.(?:js|css)|(?:\?.*)?)$/, (route) => {
    const { pathname } = new URL(route.request().url());
    return route.fulfill({ path: join(folder, pathname === '/' ? 'index.html' : pathname) });
  });
}

/** Waits until a tab is in the room. @param {Tab} tab */
export async function inCall(tab) {
  try {
    await tab.waitForFunction(() => window.moonring?.client?.joined, undefined, { timeout: PATIENCE_MS });
  } catch (error) {
    throw new Error(`not in the room: ${await tab.textContent('#status')}`, { cause: error });
  }
}

/** Waits until `check` gives something true, and returns it.
 *  @template T @param {string} what @param {() => T | Promise<T>} check
 *  @returns {Promise<Exclude<T, undefined | null | false | 0 | ''>>} */
export async function until(what, check, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  while (Date.now() < end) {
    const seen = await check();
    if (seen) return /** @type {any} */ (seen);
    await sleep(100);
  }
  throw new Error(`waited ${patience} ms in vain until ${what}`);
}

/** What the tab's peer connection reports; inbound streams by track id. @param {Tab} tab */
export function stats(tab) {
  return tab.evaluate(async () => {
    const { client, received } = window.moonring;
    /** @type {{inbound: Record<string, any>, outbound: any[], transport: any}} */
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

/** Waits until the tab decodes `videos` videos and hears `audios` audios, each of them advancing from now on.
 *  @param {Tab} tab @param {{videos: number, audios: number}} wanted */
export async function flows(tab, { videos, audios }) {
  const progress = (/** @type {any} */ s) => (s.kind === 'video' ? (s.framesDecoded ?? 0) : (s.packetsReceived ?? 0));
  const first = (await stats(tab)).inbound;
  /** @type {Record<string, any>} */ let last = {};
  try {
    await until('media flows', async () => {
      last = (await stats(tab)).inbound;
      const moving = Object.entries(last).filter(([id, s]) => progress(s) >= (first[id] ? progress(first[id]) : 0) + 5);
      const count = (/** @type {string} */ kind) => moving.filter(([, s]) => s.kind === kind).length;
      return count('video') >= videos && count('audio') >= audios;
    });
  } catch (error) {
    const seen = Object.values(last).map((s) => `${s.kind} ${progress(s)}`);
    throw new Error(`wanted ${videos} videos and ${audios} audios to advance, have: ${seen.join(', ')}`, { cause: error });
  }
  return last;
}

/** Notes the longest time between two pictures of what is received, as `window.longest` in ms. @param {Tab} tab */
export async function watchGaps(tab) {
  await tab.evaluate(() => {
    const video = /** @type {HTMLVideoElement} */ (document.querySelector('.tile:not(.mine) video'));
    window.longest = 0;
    let last = performance.now();
    const frame = () => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
      video.requestVideoFrameCallback(frame);
    };
    video.requestVideoFrameCallback(frame);
  });
}

/** Keeps a picture of the tab for the artefacts. @param {Tab} tab @param {string} name */
export async function keepScreenshot(tab, name) {
  mkdirSync(ARTIFACTS, { recursive: true });
  await tab.screenshot({ path: join(ARTIFACTS, `${name}.png`) });
}

/** A line in the test's output that reports a measured figure. @param {string} text */
export function report(text) {
  console.log(`# measured: ${text}`);
}
