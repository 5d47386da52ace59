// @ts-check
// A publisher of a picture that is hard to compress, subscribers behind links of their own, and what they get of it.
import { join } from 'node:path';
import { connectDirectly, leaveWithMedia } from '../../e2e/direct.mjs';
import { openTab, ROOT, sleep, until, withoutUdp } from '../../e2e/lib.mjs';
import { browserIn } from './browser.mjs';
import { FPS, HEIGHT, WIDTH, writePicture } from './picture.mjs';
import { figures, samplesOf, startSampling, watchPaths, watchSending } from './sample.mjs';

/** The publisher's three layers, by the height of their pictures, and what each link carries. */
const HEIGHTS = /** @type {Record<string, number>} */ ({ 3000: 540, 600: 270, 200: 135 });
const TOP = HEIGHT;
const PICTURE = { width: WIDTH, height: HEIGHT, fps: FPS };

/** @typedef {import('../../e2e/lib.mjs').Tab} Tab */
/** @typedef {import('./net.mjs').Place} Place */
/** @typedef {{kbps: number | null, place: Place, tab: Tab}} Receiver */
/** @typedef {{limited: number, lifted: number}} Times seconds */
/** @typedef {{scene: string, link: string, phase: string, wanted: number, dropped: number, samples: import('./sample.mjs').Sample[],
 *    known: import('./sample.mjs').Known[], lifted: number, sending?: any[], asked?: Record<string, number>, encoded?: Record<string, {height: number, at: number[]}>} & ReturnType<typeof figures>} Row */

process.env.MOONRING_WEB ??= `${ROOT}/web`; // the page does not come through the link that is measured

/** Runs `body` with a browser in a place of its own. `nice` puts the browsers before what else the machine does.
 *  @template T @param {Place} place @param {(browser: import('../../e2e/lib.mjs').Browser) => Promise<T>} body */
async function withBrowser(place, body, camera = '') {
  const browser = await browserIn(place, camera);
  try {
    return await body(browser);
  } finally {
    await browser.close();
  }
}

/** The first of them has the picture as its camera, unless there is no folder for it.
 *  @param {string | null} scratch @param {Place[]} places @param {(browsers: import('../../e2e/lib.mjs').Browser[]) => Promise<void>} body
 *  @param {import('../../e2e/lib.mjs').Browser[]} [open] @returns {Promise<void>} */
function withBrowsers(scratch, places, body, open = []) {
  const [place, ...rest] = places;
  if (!place) return body(open);
  const path = scratch && open.length === 0 && join(scratch, 'picture.y4m');
  if (path) writePicture(path);
  const camera = path ? `--use-file-for-fake-video-capture=${path}` : '';
  return withBrowser(place, (browser) => withBrowsers(scratch, rest, body, [...open, browser]), camera);
}

/** Subscribers on links of `kbps` each (null: no limit) in one room; the limits are lifted after a while.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server
 *  `sending`: what the publisher sends instead of simulcast, as the page's query; `heights`: what is to come of it on each link;
 *  `overTcp`: subscribers have no UDP; `isHome`: they have one address, and one link of so many kbit/s.
 *  @param {{name: string, kbps: (number | null)[], times: Times, sending?: Record<string, string | number>, heights?: Record<string, number>, overTcp?: boolean,
 *    isHome?: boolean}} scene
 *  @returns {Promise<Row[]>} */
export async function throughServer(net, server, { name, kbps, times, sending = {}, heights = HEIGHTS, overTcp = false, isHome = false }) {
  /** @type {Row[]} */ const rows = [];
  const places = [await net.place()];
  for (const [n] of kbps.entries()) places.push(isHome && n > 0 ? places[1] : await net.place());
  await withBrowsers(net.scratch, places, async ([publisher, ...browsers]) => {
    const room = name.replaceAll(' ', '-');
    const from = await openTab(publisher, server, { room, name: 'publisher', media: 'camera', ...PICTURE, ...sending });
    await sleep(4000); // its own bandwidth estimate has to pay for the top layer first
    await from.addStyleTag({ content: '.mine { display: none }' }); // the page need not show it
    await watchSending(from);
    const watching = watchPaths(server);
    /** @type {Receiver[]} */ const receivers = [];
    for (const [n, limit] of kbps.entries()) {
      const place = places[n + 1];
      place.limit(limit);
      const tab = await openTab(browsers[n], server, { room, name: `behind ${limit ?? 'nothing'}`, media: 'none' }, { init: overTcp ? withoutUdp : undefined });
      await showLarge(tab);
      await startSampling(tab);
      receivers.push({ kbps: limit, place, tab });
    }
    const told = await measure(name, receivers, { times, heights }, rows);
    const known = await watching.stop();
    const sent = await from.evaluate(() => ({ sending: window.sending, encoded: window.encoded }));
    const asked = await server.keyFrames();
    rows.forEach((row) => Object.assign(row, sent, { asked }));
    for (const [n, { tab }] of receivers.entries()) {
      const id = await tab.evaluate(() => window.moonring.client.id);
      for (const row of rows.filter(({ link }) => link === told[n])) row.known = known[id] ?? [];
    }
  });
  return rows;
}

/** The same two browsers connected to each other, over the same link.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server
 *  @param {{name: string, kbps: number, times: Times, sending?: {codec?: string, svc?: string, bitrate?: number}}} scene @returns {Promise<Row[]>} */
export async function directly(net, server, { name, kbps, times, sending }) {
  /** @type {Row[]} */ const rows = [];
  const places = [await net.place(), await net.place()];
  await withBrowsers(net.scratch, places, async ([one, other]) => {
    const query = { room: name.replaceAll(' ', '-'), ...PICTURE };
    const from = await openTab(one, server, { ...query, name: 'publisher', media: 'camera' });
    const to = await openTab(other, server, { ...query, name: 'receiver', media: 'none' });
    await leaveWithMedia([from, to]);
    places[1].limit(kbps);
    await startSampling(to);
    await connectDirectly(from, to, sending);
    await measure(name, [{ kbps, place: places[1], tab: to }], { times, heights: HEIGHTS }, rows);
  });
  return rows;
}

/** Two people without any limit, both of whom are to see 1280x720 all the time.
 *  @param {import('./net.mjs').Net} net @param {import('./server.mjs').Server} server @param {number} seconds @returns {Promise<Row[]>} */
export async function twoParty(net, server, seconds) {
  /** @type {Row[]} */ const rows = [];
  const places = [await net.place(), await net.place()];
  await withBrowsers(null, places, async (browsers) => {
    const query = { room: 'two-party', media: 'camera', width: 1280, height: 720, fps: 20 };
    const tabs = await Promise.all(browsers.map((browser, n) => openTab(browser, server, { ...query, name: `person ${n}` })));
    for (const tab of tabs) {
      await showLarge(tab);
      await watchSending(tab);
      await startSampling(tab);
    }
    await sleep((seconds + 10) * 1000);
    for (const [n, tab] of tabs.entries()) {
      const samples = await samplesOf(tab);
      const sending = await tabs[1 - n].evaluate(() => window.sending); // Chromium may scale down by itself: see its reasons
      const time = { from: 10, to: 10 + seconds, wanted: 720 };
      rows.push({ scene: 'two-party', link: `person ${n}`, phase: 'no limit', wanted: 720, dropped: 0, samples, known: [], lifted: 0, sending, ...figures(samples, time) });
    }
  });
  return rows;
}

/** The links' names; a row for each phase of each receiver.
 *  @param {string} scene @param {Receiver[]} receivers @param {{times: Times, heights: Record<string, number>}} expected @param {Row[]} rows */
async function measure(scene, receivers, { times, heights }, rows) {
  // Where a picture came late, it counts from when the receiver began to wait for it.
  const at = receivers.map(({ tab }) => tab.evaluate(() => window.samples.at(-1)?.t ?? 0));
  const began = await Promise.all(at);
  await sleep(times.limited * 1000);
  const passed = receivers.map(({ place }) => place.passed());
  receivers.forEach(({ place }) => place.limit(null));
  await sleep(times.lifted * 1000);
  const isShared = (/** @type {Receiver} */ one) => receivers.filter(({ place }) => place === one.place).length > 1;
  const names = receivers.map((one, n) => (one.kbps ? `${one.kbps} kbit/s` : 'no limit') + (isShared(one) ? `, ${n + 1}` : ''));
  for (const [n, { kbps, tab }] of receivers.entries()) {
    const samples = await samplesOf(tab);
    const { packets, drops } = passed[n];
    const dropped = packets + drops > 0 ? drops / (packets + drops) : 0;
    const lifted = began[n] + times.limited;
    const common = { scene, link: names[n], samples, known: [], lifted };
    const wanted = heights[String(kbps)] ?? TOP;
    rows.push({ ...common, phase: 'limited', wanted, dropped, ...figures(samples, { from: 0, to: lifted, wanted }) });
    rows.push({ ...common, phase: 'lifted', wanted: TOP, dropped: 0, ...figures(samples, { from: lifted, to: lifted + times.lifted, wanted: TOP }) });
  }
  return names;
}

/** The other's tile over the whole window, so that the page asks for the top layer. @param {Tab} tab */
async function showLarge(tab) {
  await until('there is a tile', () => tab.evaluate(() => document.querySelectorAll('.tile:not(.mine) video').length > 0));
  await tab.evaluate(() => {
    const videos = [...document.querySelectorAll('.tile:not(.mine)')];
    const shown = videos.find((tile) => /publisher|person/.test(tile.getAttribute('aria-label') ?? '')) ?? videos[0];
    Object.assign(/** @type {HTMLElement} */ (shown).style, { position: 'fixed', inset: '0', width: '100%', height: '100%', zIndex: '9' });
  });
}
