// @ts-check
// Two processes that are nodes of a cluster: tabs of Chromium and of Firefox go from one to the other and back, in a call.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT, TOKEN, flows, freePort, openTab, report, sleep, startBrowser, startServer, stats, until, watchGaps } from './lib.mjs';

/** @typedef {import('./lib.mjs').Tab} Tab */
/** @typedef {import('./lib.mjs').Server} Server */

const NATS = process.env.MOONRING_NATS ?? join(ROOT, 'target/nats/bin/nats-server');
const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const PUPPETEER = new URL('../clients/package.json', import.meta.url);
/** Firefox refuses 127.0.0.1: media goes to an address of this machine's own, which stays within it. */
const OWN = Object.values(networkInterfaces()).flat().find((one) => one?.family === 'IPv4' && !one.internal)?.address;
const MEDIA_IP = OWN ?? '127.0.0.1';
/** Moves of each tab. */
const MOVES = Number(process.env.MOONRING_MOVES ?? 10);
const skip = existsSync(NATS) ? false : `${NATS} is missing: make tools-nats`;

const folder = mkdtempSync(join(tmpdir(), 'moonring-nodes-'));
const secret = join(folder, 'secret');
writeFileSync(secret, 'the secret of the test cluster');
/** @type {import('node:child_process').ChildProcess} */ let nats;
/** @type {Record<string, Server>} */ const nodes = {};
/** @type {import('playwright-core').Browser} */ let browser;

before(async () => {
  if (skip) return;
  const port = await freePort();
  nats = spawn(NATS, ['-a', '127.0.0.1', '-p', `${port}`, '-js', '-sd', join(folder, 'nats')], { stdio: 'ignore' });
  const flags = (/** @type {string} */ node) => (/** @type {string} */ url) => [
    ...['--cluster', `nats://127.0.0.1:${port}`, '--cluster-secret-file', secret, '--node', node, '--advertised-url', url],
    ...['--cluster-spread', 'always', '--link-ip', MEDIA_IP, '--shards', '1'],
  ];
  for (const node of ['n1', 'n2']) nodes[node] = await startServer({ mediaIp: MEDIA_IP, flags: flags(node) });
  await until('both nodes see each other', async () => {
    const views = await Promise.all(Object.values(nodes).map(async ({ admin }) => (await fetch(`${admin}/nodes`)).json()));
    return views.every((view) => view.length === 2 && view.every((/** @type {any} */ { verdict }) => ['own', 'alive'].includes(verdict)));
  });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  for (const node of Object.values(nodes)) await node.stop();
  nats?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** An order at the room's home. @param {string} room @param {string} client @param {string} node */
async function order(room, client, node) {
  const response = await fetch(`${nodes.n1.admin}/rooms/${room}/move`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client, node }),
  });
  return { status: response.status, text: (await response.text()).trim() };
}

/** The port of the server's that media flows to. @param {Tab} tab */
function port(tab) {
  return tab.evaluate(async () => {
    const all = [...(await window.moonring.client.peerConnection.getStats()).values()];
    const transport = all.find(({ type }) => type === 'transport');
    const pairs = all.filter(({ type }) => type === 'candidate-pair');
    // Firefox says of each pair whether it is the one.
    const pair = pairs.find(({ id, selected }) => id === transport?.selectedCandidatePairId || selected);
    return all.find(({ id }) => id === pair?.remoteCandidateId)?.port;
  });
}

/** @param {Tab} tab */
async function figures(tab) {
  const inbound = Object.values((await stats(tab)).inbound);
  const video = inbound.find(({ kind }) => kind === 'video');
  const lost = inbound.reduce((sum, { packetsLost }) => sum + packetsLost, 0);
  return { frames: video.framesDecoded, lost };
}

/** Notes what a tab is told, and its gaps. @param {Tab} tab */
async function note(tab) {
  await tab.evaluate(() => {
    window.told = [];
    for (const name of ['client_left', 'client_joined', 'track_unpublished', 'closed', 'browser_error']) {
      window.moonring.client.on(name, () => window.told.push(name));
    }
  });
  await watchGaps(tab);
}

/**
 * Moves a tab to and fro while the other one stays, and says what both saw of it.
 * @param {string} room @param {[Tab, string]} mover @param {[Tab, string]} other @param {number} [most] packets that the mover may lose
 */
async function wander(room, [tab, name], [other, othersName], most = 0) {
  for (const one of [tab, other]) await flows(one, { videos: 1, audios: 1 });
  for (const one of [tab, other]) await note(one);
  const id = await tab.evaluate(() => window.moonring.client.id);
  const first = await Promise.all([tab, other].map(figures));
  const times = [];
  let at = await port(tab);
  for (let n = 0; n < MOVES; n++) {
    const began = performance.now();
    assert.deepEqual(await order(room, id, n % 2 === 0 ? 'n2' : 'n1'), { status: 200, text: 'null' });
    const from = at;
    at = await until(`the media of ${name} goes to the other node`, async () => {
      const now = await port(tab);
      return now !== from && now;
    });
    times.push(Math.round(performance.now() - began));
    await until(`${name} has its stay there`, () => tab.evaluate(() => window.moonring.client.joined));
    for (const one of [tab, other]) await flows(one, { videos: 1, audios: 1 });
  }
  await sleep(1000);
  const last = await Promise.all([tab, other].map(figures));
  for (const [n, words] of [`${name}, who moved`, `${othersName}, who stayed`].entries()) {
    const one = [tab, other][n];
    const longest = await one.evaluate(() => Math.round(window.longest));
    const lost = last[n].lost - first[n].lost;
    report(`${MOVES} moves between nodes, ${words}: ${last[n].frames - first[n].frames} frames, ${lost} packets lost, longest time between two frames ${longest} ms`);
    assert.ok(lost <= (n === 0 ? most : 0), words);
    assert.deepEqual(await one.evaluate(() => window.told), [], words);
  }
  report(`${name}: the other node in use ${times.join(', ')} ms after the order`);
  assert.equal(await tab.evaluate(() => window.moonring.client.id), id, 'it is the same stay');
  // What it says reaches the others from where it is.
  await tab.evaluate(() => [...window.moonring.client.publications].find(({ kind }) => kind === 'audio')?.setMuted(true));
  await until('the others hear of its mute', () =>
    other.evaluate((who) => [...window.moonring.client.tracks.values()].some(({ client, kind, muted }) => client === who && kind === 'audio' && muted), id));
}

/** Ada comes first, so that n1 is the room's home. @param {string} room */
const come = (room, name = 'Ada', node = 'n1') => openTab(browser, nodes[node], { room, name });

test('a tab of Chromium that goes to another node and back loses no packet and stays who it is', { skip }, async () => {
  const tabs = [await come('chromium'), await come('chromium', 'Grace')];
  await wander('chromium', [tabs[1], 'Grace'], [tabs[0], 'Ada']);
  const answers = [await order('chromium', 'nobody', 'n2'), await order('chromium', 'nobody', 'n9')];
  assert.deepEqual(answers.map(({ text }) => text), ['there is no client nobody in the room', 'there is no client nobody in the room']);
  const id = await tabs[0].evaluate(() => window.moonring.client.id);
  assert.deepEqual(await order('chromium', id, 'n9'), { status: 422, text: 'there is no node n9 that lives' });
  for (const tab of tabs) await tab.context().close();
});

/** What drives Firefox, if it is installed: the tests of foreign clients need it, those of browsers do not. */
function puppeteer() {
  try {
    return createRequire(PUPPETEER)('puppeteer-core');
  } catch (error) {
    if (/** @type {any} */ (error).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

test('a tab of Firefox that goes to another node and back goes on and stays who it is', async (t) => {
  if (skip) return t.skip(skip);
  if (!existsSync(FIREFOX)) return t.skip(`${FIREFOX} is missing`);
  if (!OWN) return t.skip('this machine has no address but 127.0.0.1, which Firefox refuses');
  const { launch } = puppeteer() ?? {};
  if (!launch) return t.skip('puppeteer-core is not installed in tests/clients: npm --prefix tests/clients ci');
  const firefox = await launch({
    browser: 'firefox',
    executablePath: FIREFOX,
    headless: true,
    acceptInsecureCerts: true,
    extraPrefsFirefox: {
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'media.autoplay.block-webaudio': false,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      'privacy.reduceTimerPrecision': false,
    },
  });
  const ada = await come('firefox');
  try {
    const page = await firefox.newPage();
    page.on('pageerror', (/** @type {any} */ error) => console.error(`Firefox: ${error}`));
    const query = { autojoin: '1', media: 'test', token: TOKEN, width: '320', height: '240', fps: '15', room: 'firefox', name: 'Fox' };
    await page.goto(`${nodes.n1.url}/?${new URLSearchParams(query)}`);
    await until('Firefox is in the room', () => page.evaluate(() => window.moonring?.client?.joined));
    // It may drop what comes by another path than the one that it has chosen.
    await wander('firefox', [page, 'Fox'], [ada, 'Ada'], MOVES);
  } finally {
    await firefox.close();
    await ada.context().close();
  }
});
